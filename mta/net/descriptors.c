/* mta/net/descriptors.c - see descriptors.h. */
#include "mta/net/descriptors.h"

#include <sys/resource.h>
#include <uv.h>

#define OWN         ((size_t)128) /* metrics alone may have 64 */
#define OWN_A_LOOP  ((size_t)8)   /* its own three, and sockets to name servers */
#define REFUSED_1_A ((size_t)16)

struct descriptor_shares descriptors_share(size_t limit, size_t loops, size_t deliveries_wanted)
{
    size_t own = OWN + loops * OWN_A_LOOP;
    if (own > limit / 4)
        own = limit / 4;
    size_t rest = limit - own;
    size_t deliveries = deliveries_wanted < rest / 2 ? deliveries_wanted : rest / 2;
    size_t room = rest - deliveries;
    size_t refused = room / REFUSED_1_A;
    if (refused == 0 && room > 1)
        refused = 1;
    return (struct descriptor_shares){room - refused, refused, deliveries};
}

struct descriptor_shares descriptors_share_now(size_t deliveries_wanted)
{
    struct rlimit limit = {.rlim_cur = 1024}; /* POSIX promises 20; Linux gives this */
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    return descriptors_share((size_t)limit.rlim_cur, uv_available_parallelism(), deliveries_wanted);
}
