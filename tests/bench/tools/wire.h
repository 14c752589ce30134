/* tests/bench/tools/wire.h - a client's non-blocking socket, in clear or under TLS. */
#ifndef TESTS_BENCH_WIRE_H
#define TESTS_BENCH_WIRE_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <sys/types.h>

struct wire {
    int fd;               /* negative: closed */
    gnutls_session_t tls; /* NULL: in clear */
};

/* Like send() and recv(): -1 with EAGAIN where the socket has to be waited for; 0: the peer's end. */
ssize_t wire_send(struct wire *wire, const void *bytes, size_t len);
ssize_t wire_recv(struct wire *wire, void *bytes, size_t size);
/* Is there more, which no socket will tell of? */
bool wire_pending(const struct wire *wire);
/* TLS begins with the next handshake. No certificate is looked at. */
void wire_start_tls(struct wire *wire);
/* @return 1: done; 0: it goes on when the socket is ready (for writing, if *writes_out); -1: failed */
int wire_handshake(struct wire *wire, bool *writes_out);
/* Without a farewell. */
void wire_close(struct wire *wire);

#endif
