/* tests/crash/cut_work.h - the process whose power is cut: works a queue in all ways that its API
 * has and marks each step (cut_ledger.h) in the record. */
#ifndef TESTS_CRASH_CUT_WORK_H
#define TESTS_CRASH_CUT_WORK_H

#include <stddef.h>
#include <stdint.h>

/* Until `target` messages are accepted; then closes the queue or just stops, by the seed. To be run
 * with shim_record.so preloaded. @return the exit code of the process */
int cut_work(const char *folder, uint64_t seed, size_t target);

#endif
