/* mta/base/str.h - borrowed text with a length. Never owns, never NUL-terminates. */
#ifndef MTA_BASE_STR_H
#define MTA_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_USE __attribute__((warn_unused_result))

struct str {
    const char *p;
    size_t len;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})

struct str str_from(const char *text); /* NULL gives the empty string */
bool str_equal(struct str a, struct str b);
bool str_equal_nocase(struct str a, struct str b); /* ASCII only, whatever the locale */
bool str_starts_nocase(struct str s, struct str prefix);
bool str_ends_nocase(struct str s, struct str suffix);
struct str str_trim(struct str s);           /* spaces and tabs, both ends */
struct str str_skip(struct str s, size_t n); /* n beyond the end gives the empty string */

/* Owned, NUL-terminated copy; out of memory ends the process. */
char *str_dup(struct str s);
/* ASCII lower case, in place. */
void str_lower(char *text, size_t len);

/* A decimal number without sign, 1..20 digits, nothing around it. false: no number or over max. */
MUST_USE bool str_parse_u64(struct str s, uint64_t max, uint64_t *value_out);

/* The UTF-8 sequence at the front of s (RFC 3629: no surrogates, nothing overlong).
 * @return its length 1..4; 0: not UTF-8; -1: the bytes are the beginning of one */
int str_utf8_length(struct str s);
MUST_USE bool str_utf8_valid(struct str s);

/* Allocation that ends the process when memory is out: sizes from outside are bounded before. */
void *mem_alloc(size_t size);           /* zeroed */
void *mem_grow(void *old, size_t size); /* realloc */

/* A bug: prints the place and aborts. For the end of a switch over an enum. */
#define unreachable_bug() bug_abort(__FILE__, __LINE__)
_Noreturn void bug_abort(const char *file, int line);

#endif
