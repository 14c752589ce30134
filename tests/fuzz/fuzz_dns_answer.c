/* The DNS answer parser. The first byte chooses what was asked: the type, and a name that the seeds
 * in corpus/dns_answer/ answer. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dns/parse_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const uint16_t types[] = {DNS_TYPE_MX, DNS_TYPE_A, DNS_TYPE_AAAA};
    struct dns_parsed parsed;

    if (len < 1)
        return 0;
    uint16_t type = types[bytes[0] % 3];
    dns_parse_answer(bytes + 1, len - 1, "example.test", type, &parsed);

    size_t most = type == DNS_TYPE_MX ? DNS_HOSTS_MAX : DNS_ADDRESSES_MAX;
    if (parsed.count > most || parsed.ttl_s > DNS_TTL_MAX_S || parsed.status == DNS_TIMEOUT ||
        (parsed.null_mx && parsed.count > 0) || (parsed.follow && parsed.target[0] == '\0') ||
        (parsed.problem != NULL) != (parsed.status == DNS_SERVER_FAILURE))
        abort();
    for (size_t i = 0; type == DNS_TYPE_MX && i < parsed.count; i++) {
        if (strlen(parsed.hosts[i].name) >= DNS_NAME_MAX || parsed.hosts[i].name[0] == '\0' ||
            (i > 0 && parsed.hosts[i].preference < parsed.hosts[i - 1].preference))
            abort();
    }
    dns_parsed_deinit(&parsed);
    return 0;
}
