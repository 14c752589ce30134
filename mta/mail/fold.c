/* mta/mail/fold.c - writing a folded header field. */
#include "mta/mail/fold_private.h"

#include <string.h>

void fold_add(struct fold *fold, struct str text)
{
    (void)buf_add_str(fold->out, text);
    fold->column += text.len;
}

void fold_begin(struct fold *fold, struct buf *out, const char *name)
{
    *fold = (struct fold){.out = out};
    fold_add(fold, str_from(name));
}

void fold_break(struct fold *fold)
{
    (void)buf_add_text(fold->out, "\r\n ");
    fold->column = 1;
}

void fold_word(struct fold *fold, struct str word)
{
    if (fold->column + 1 + word.len >= FOLD_WIDTH)
        fold_break(fold);
    else
        fold_add(fold, STR(" "));
    fold_add(fold, word);
}

void fold_glue(struct fold *fold, struct str piece)
{
    if (fold->column + piece.len >= FOLD_WIDTH)
        fold_break(fold);
    fold_add(fold, piece);
}

void fold_fill(struct fold *fold, struct str text)
{
    while (text.len > 0) {
        if (fold->column >= FOLD_WIDTH)
            fold_break(fold);
        size_t room = FOLD_WIDTH - fold->column;
        struct str part = {text.p, text.len < room ? text.len : room};
        fold_add(fold, part);
        text = str_skip(text, part.len);
    }
}

void fold_words(struct fold *fold, struct str text, size_t max)
{
    while (text.len > 0) {
        const char *space = memchr(text.p, ' ', text.len);
        size_t len = space == NULL ? text.len : (size_t)(space - text.p);
        if (len == 0) {
            text = str_skip(text, 1);
            continue;
        }
        if (len > max)
            len = max;
        fold_word(fold, (struct str){text.p, len});
        text = str_skip(text, len);
    }
}

void fold_end(struct fold *fold)
{
    (void)buf_add_text(fold->out, "\r\n");
    fold->column = 0;
}
