/* dsn_build HOST TO [ADDRESS STATUS CODE TEXT REMOTE EXPIRED(0|1)]...: prints the notification
 * about a message whose header section is standard input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mail/dsn.h"

#define HEADER_MAX     ((size_t)16 << 20)
#define ARGUMENTS_EACH 6
#define NOW_MS         INT64_C(1795567926123)

static bool read_all(struct buf *section)
{
    char bytes[65536];
    size_t len;
    do {
        len = fread(bytes, 1, sizeof bytes, stdin);
        if (!buf_add(section, bytes, len))
            return false;
    } while (len > 0);
    return ferror(stdin) == 0;
}

static void fill(struct dsn_recipient *recipient, char **argument)
{
    *recipient = (struct dsn_recipient){
        .address = argument[0],
        .status = argument[1],
        .code = (uint16_t)strtoul(argument[2], NULL, 10),
        .text = argument[3],
        .remote_host = argument[4],
        .last_attempt_unix_ms = NOW_MS,
        .expired = argument[5][0] == '1',
    };
}

int main(int argc, char **argv)
{
    if (argc < 3 || (argc - 3) % ARGUMENTS_EACH != 0) {
        fprintf(stderr, "usage: dsn_build HOST TO [ADDRESS STATUS CODE TEXT REMOTE EXPIRED]...\n");
        return 2;
    }
    size_t count = (size_t)(argc - 3) / ARGUMENTS_EACH;
    struct dsn_recipient *recipients = mem_alloc((count + 1) * sizeof *recipients);
    for (size_t i = 0; i < count; i++)
        fill(&recipients[i], argv + 3 + i * ARGUMENTS_EACH);

    struct buf section;
    struct buf out;
    size_t header_len;
    bool is_8bit;
    buf_init(&section, HEADER_MAX);
    buf_init(&out, DSN_SIZE_MAX(count));
    bool ok = read_all(&section);
    struct dsn dsn = {
        .reporting_mta = argv[1],
        .to = argv[2],
        .id = "0ABCDEFGHJKMN",
        .own_id = "0ABCDEFGHJKMP",
        .arrival_unix_ms = NOW_MS - 3600000,
        .now_unix_ms = NOW_MS,
        .recipients = recipients,
        .recipient_count = count,
        .original_header = buf_str(&section),
    };
    ok = ok && dsn_build(&dsn, &out, &header_len, &is_8bit) &&
         fwrite(buf_str(&out).p, 1, buf_len(&out), stdout) == buf_len(&out) && fflush(stdout) == 0;
    buf_deinit(&section);
    buf_deinit(&out);
    free(recipients);
    return ok ? 0 : 1;
}
