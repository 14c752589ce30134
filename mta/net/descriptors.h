/* mta/net/descriptors.h - how the process's limit of open files is shared out, so that clients that
 * only sit there cannot keep mail from leaving, nor the other way round. Any thread. */
#ifndef MTA_NET_DESCRIPTORS_H
#define MTA_NET_DESCRIPTORS_H

#include <stddef.h>

/* Connections at once. Together with what the process needs for itself (the queue, the log, name
 * servers, mtactl, metrics) never more than the limit. */
struct descriptor_shares {
    size_t clients;    /* served; more get 421, */
    size_t refused;    /* so many of them at once; more wait to be accepted */
    size_t deliveries; /* at most as many as wanted, and no more than the clients have */
};

/* Pure. limit: open files; loops: threads of net/loops.h; deliveries_wanted: delivery.max_connections. */
struct descriptor_shares descriptors_share(size_t limit, size_t loops, size_t deliveries_wanted);

/* The same for this process: RLIMIT_NOFILE as it is now, a loop for each processor. */
struct descriptor_shares descriptors_share_now(size_t deliveries_wanted);

#endif
