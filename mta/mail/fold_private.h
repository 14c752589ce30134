/* mta/mail/fold_private.h - writing a header field folded at 78 octets (RFC 5322 section 2.2.3).
 * Folds only between the pieces that the caller gives; a fold is CRLF and one space, so unfolding
 * gives the very text. A buffer without room is remembered in its own overflow flag. */
#ifndef MTA_MAIL_FOLD_PRIVATE_H
#define MTA_MAIL_FOLD_PRIVATE_H

#include "mta/base/buf.h"

#define FOLD_WIDTH 78

struct fold {
    struct buf *out;
    size_t column;
};

/* "Name:" begins a line. */
void fold_begin(struct fold *fold, struct buf *out, const char *name);
/* A piece with a space or a fold before it. */
void fold_word(struct fold *fold, struct str word);
/* A piece directly behind the last one, or after a fold: for lists in which white space means
 * nothing. */
void fold_glue(struct fold *fold, struct str piece);
/* Directly behind the last piece, whatever the width. */
void fold_add(struct fold *fold, struct str text);
/* Text that may be cut anywhere (base64): fills line after line. */
void fold_fill(struct fold *fold, struct str text);
/* Text as words, folded at its spaces. A word of more than max octets is cut, so that no line grows
 * over 998. */
void fold_words(struct fold *fold, struct str text, size_t max);
void fold_break(struct fold *fold);
void fold_end(struct fold *fold);

#endif
