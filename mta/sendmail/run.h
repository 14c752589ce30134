/* mta/sendmail/run.h - what the options ask for, done. Blocks on standard input and the socket. */
#ifndef MTA_SENDMAIL_RUN_H
#define MTA_SENDMAIL_RUN_H

#include "mta/sendmail/options.h"
#include "mta/sendmail/verdict.h"

#define SENDMAIL_DEFAULT_CONFIG "/etc/mta/mta.yaml"
#define SENDMAIL_DEFAULT_SOCKET "/run/mta/submission"

/**
 * The socket of the first submission listener that has one. Without a configuration that can be read
 * and is right: SENDMAIL_DEFAULT_SOCKET, unless the user named the configuration.
 *
 * @param config NULL: SENDMAIL_DEFAULT_CONFIG
 * @return 0; -1 with the verdict (EX_CONFIG): only if config was named
 */
MUST_USE int sendmail_socket_path(const char *config, char *path, size_t size,
                                  struct sendmail_verdict *verdict);

/* Standard input to the queue. @return 0; -1 with the verdict */
MUST_USE int sendmail_send(const struct sendmail_options *options, struct sendmail_verdict *verdict);

/* SMTP between in_fd, out_fd and the listener until the listener ends, or the client does and has
 * got its last reply. Where there is no listener the client is told 421. @return 0; -1 */
MUST_USE int sendmail_relay(const char *path, int in_fd, int out_fd,
                            struct sendmail_verdict *verdict);

#endif
