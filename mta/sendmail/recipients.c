/* mta/sendmail/recipients.c - see recipients.h. */
#include "mta/sendmail/recipients.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/mail/address_list.h"

#define ADDRESS_MAX 1000 /* a listener takes less; a command line has an end */
#define SHOWN_MAX   80

void sendmail_recipients_deinit(struct sendmail_recipients *recipients)
{
    for (size_t i = 0; i < recipients->count; i++)
        free(recipients->addresses[i]);
    free(recipients->addresses);
    *recipients = (struct sendmail_recipients){0};
}

static int fail(const char *what, struct str text, char *error, size_t error_size)
{
    char shown[SHOWN_MAX + 1];
    size_t len = 0;
    text = str_trim(text);
    for (; len < text.len && len < SHOWN_MAX; len++)
        shown[len] = (char)(text.p[len] < ' ' || text.p[len] >= 0x7f ? '?' : text.p[len]);
    shown[len] = '\0';
    (void)snprintf(error, error_size, "%s: \"%s\"%s", what, shown, len < text.len ? "..." : "");
    return -1;
}

/* Quoted strings and literals may hold anything: a fold of the header in one would end the command.
 */
static bool is_one_line(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.p[i] < ' ' || text.p[i] == 0x7f)
            return false;
    }
    return true;
}

static char *join(const struct address *address)
{
    size_t at = address->domain.len > 0 ? 1 : 0;
    size_t len = address->local.len + at + address->domain.len;
    if (len > ADDRESS_MAX || !is_one_line(address->local) || !is_one_line(address->domain))
        return NULL;
    char *text = mem_alloc(len + 1);
    memcpy(text, address->local.p, address->local.len);
    if (at > 0) {
        text[address->local.len] = '@';
        memcpy(text + address->local.len + 1, address->domain.p, address->domain.len);
    }
    return text;
}

static void append(struct sendmail_recipients *recipients, char *text)
{
    if (recipients->count == recipients->capacity) {
        recipients->capacity = recipients->capacity > 0 ? 2 * recipients->capacity : 16;
        recipients->addresses =
            mem_grow(recipients->addresses, recipients->capacity * sizeof *recipients->addresses);
    }
    recipients->addresses[recipients->count++] = text;
}

int sendmail_recipients_add(struct sendmail_recipients *recipients, struct str list, char *error,
                            size_t error_size)
{
    struct address_list walk;
    struct address address;

    address_list_init(&walk, list);
    for (;;) {
        char *text = NULL;
        switch (address_list_next(&walk, &address)) {
        case ADDRESS_END:
            return 0;
        case ADDRESS_MAILBOX:
        case ADDRESS_LOCAL:
            text = join(&address);
            break;
        case ADDRESS_WORDS:
            return fail("words without an address", address.text, error, error_size);
        case ADDRESS_BAD:
            break;
        }
        if (text == NULL)
            return fail("not to be read as an address", address.text, error, error_size);
        append(recipients, text);
    }
}

char *sendmail_sender_read(struct str text, char *error, size_t error_size)
{
    struct sendmail_recipients found = {0};
    char *sender = NULL;

    text = str_trim(text);
    if (text.len == 0 || str_equal(text, STR("<>")))
        return str_dup(STR(""));
    if (sendmail_recipients_add(&found, text, error, error_size) == 0) {
        if (found.count == 1)
            sender = str_dup(str_from(found.addresses[0]));
        else
            (void)fail("expected one address", text, error, error_size);
    }
    sendmail_recipients_deinit(&found);
    return sender;
}
