/* tests/bench/queue_bench.c - measurements of the queue: queue_bench COMMAND ...
 * See README.md for the commands. */
#include <stdio.h>
#include <string.h>

#include "tests/bench/bench.h"

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {
        {"compare", compare_main}, {"load", load_main},       {"layout", layout_main},
        {"scan", scan_main},       {"compact", compact_main},
    };
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
    }
    (void)fprintf(stderr, "usage: queue_bench compare|load|layout|scan|compact ...\n");
    return 2;
}
