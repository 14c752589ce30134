/* mta/mtactl/progress.c - see progress.h. */
#include "mta/mtactl/progress.h"

#include "mta/mtactl/print.h"
#include "mta/mtactl/words.h"

#define CLEAR "\r\x1b[K"

void ctl_progress_show(struct ctl_progress *progress, const json_t *values)
{
    char seen[CTL_WORDS_MAX];
    char total[CTL_WORDS_MAX];
    char matched[CTL_WORDS_MAX];
    ctl_number_words(ctl_json_number(values, "seen"), seen);
    ctl_number_words(ctl_json_number(values, "total"), total);
    ctl_number_words(ctl_json_number(values, "matched"), matched);
    (void)fprintf(progress->out, CLEAR "%s of about %s messages looked at, %s matched", seen, total,
                  matched);
    (void)fflush(progress->out);
    progress->shown = true;
}

void ctl_progress_clear(struct ctl_progress *progress)
{
    if (!progress->shown)
        return;
    (void)fputs(CLEAR, progress->out);
    (void)fflush(progress->out);
    progress->shown = false;
}
