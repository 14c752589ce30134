/* An address list from anyone: every part points into it, in order, each item ends where the next
 * begins or before; and a section of such fields comes through submission with its Bcc gone. */
#include <assert.h>
#include <string.h>

#include "mta/mail/address_list.h"
#include "mta/mail/submission.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lies_in(struct str part, struct str whole)
{
    return part.p >= whole.p && part.p + part.len <= whole.p + whole.len;
}

static void check_list(struct str value)
{
    struct address_list list;
    struct address address;
    enum address_item item;
    const char *end = value.p;

    address_list_init(&list, value);
    while ((item = address_list_next(&list, &address)) != ADDRESS_END) {
        assert(lies_in(address.text, value) && address.text.p >= end);
        end = address.text.p + address.text.len;
        if (item == ADDRESS_MAILBOX || item == ADDRESS_LOCAL)
            assert(address.local.len > 0 && lies_in(address.local, address.text));
        if (item == ADDRESS_MAILBOX)
            assert(address.domain.len > 0 && lies_in(address.domain, address.text));
        if (item == ADDRESS_LOCAL)
            assert(address.domain.len == 0);
    }
    assert(address_list_next(&list, &address) == ADDRESS_END);
}

/* No Bcc is left, and what is completed reads as what it was. */
static void check_section(struct str section)
{
    struct header_facts before, after;
    struct header_walk walk;
    struct header_field field;
    struct buf out, again;

    buf_init(&out, section.len + SUBMISSION_COMPLETED_MAX);
    buf_init(&again, section.len + 2 * SUBMISSION_COMPLETED_MAX);
    bool ok = submission_copy_header(section, "dom.example", &out);
    assert(ok);
    header_walk_init(&walk, buf_str(&out));
    while (header_walk_next(&walk, &field)) {
        assert(!str_equal_nocase(field.name, STR("Bcc")));
        assert(!str_equal_nocase(field.name, STR("Resent-Bcc")));
        check_list(field.value);
    }
    header_facts_read(section, &before);
    header_facts_read(buf_str(&out), &after);
    assert(before.from_count == after.from_count && before.to_count == after.to_count);
    assert(before.received_count == after.received_count);
    /* Twice changes nothing more. */
    ok = submission_copy_header(buf_str(&out), NULL, &again);
    assert(ok && str_equal(buf_str(&again), buf_str(&out)));
    buf_deinit(&out);
    buf_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    if (size == 0 || size > 32768)
        return 0;
    check_list(text);
    check_section(text);
    return 0;
}
