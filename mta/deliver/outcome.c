/* mta/deliver/outcome.c - outcome values. */
#include "mta/deliver/outcome.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void outcome_set(struct mail_outcome *outcome, enum outcome_kind kind, uint16_t code,
                 const char *status, const char *text)
{
    char *copy = str_dup(str_from(text));
    char kept[sizeof outcome->status];
    snprintf(kept, sizeof kept, "%s", status);
    free(outcome->text);
    outcome->kind = kind;
    outcome->code = code;
    memcpy(outcome->status, kept, sizeof kept);
    outcome->text = copy;
}

void outcome_copy(struct mail_outcome *to, const struct mail_outcome *from)
{
    outcome_set(to, from->kind, from->code, from->status, from->text);
}

void outcome_clear(struct mail_outcome *outcome)
{
    free(outcome->text);
    *outcome = (struct mail_outcome){0};
}
