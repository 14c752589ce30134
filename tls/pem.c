/* tls/pem.c - reads PEM files, and says in plain words what is wrong with one (RFC 7468, RFC 1421).
 */
#include "tls/tls_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PEM_MAX_BYTES = 4 * 1024 * 1024 };

/* @return 0 or an errno value; short files (shrunk meanwhile) are kept as they are. */
static int read_all(int fd, char *to, size_t size, size_t *len_out)
{
    size_t len = 0;
    while (len < size) {
        ssize_t n = read(fd, to + len, size - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    *len_out = len;
    return 0;
}

static int read_open_file(int fd, struct tls_pem *pem, const char **reason_out)
{
    struct stat info;
    if (fstat(fd, &info) != 0) {
        *reason_out = strerror(errno);
        return TLS_ERR_FILE;
    }
    if (!S_ISREG(info.st_mode)) {
        *reason_out = "not a regular file";
        return TLS_ERR_FILE;
    }
    if (info.st_size == 0) {
        *reason_out = "the file is empty";
        return TLS_ERR_FORMAT;
    }
    if (info.st_size > PEM_MAX_BYTES) {
        *reason_out = "too large (over 4 MiB)";
        return TLS_ERR_FORMAT;
    }
    pem->text = tls_alloc((size_t)info.st_size + 1);
    int fault = read_all(fd, pem->text, (size_t)info.st_size, &pem->len);
    if (fault != 0) {
        *reason_out = strerror(fault);
        return TLS_ERR_FILE;
    }
    return 0;
}

int tls_pem_read(const char *path, struct tls_pem *pem_out, char *error, size_t error_size)
{
    struct tls_pem pem = {0};
    const char *reason = "";

    /* O_NONBLOCK: a FIFO in the place of a file must not hang the start. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        tls_error_file(error, error_size, path, strerror(errno));
        return TLS_ERR_FILE;
    }
    int rc = read_open_file(fd, &pem, &reason);
    close(fd);
    if (rc < 0) {
        tls_error_file(error, error_size, path, reason);
        tls_pem_free(&pem);
        return rc;
    }
    *pem_out = pem;
    return 0;
}

void tls_pem_free(struct tls_pem *pem)
{
    if (pem->text != NULL)
        explicit_bzero(pem->text, pem->len);
    free(pem->text);
    *pem = (struct tls_pem){0};
}

const char *tls_pem_key_fault(const struct tls_pem *pem)
{
    /* The order matters: a file may hold a key beside its certificate. */
    static const struct {
        const char *mark;
        const char *fault; /* NULL: a private key */
    } marks[] = {
        {"-----BEGIN ENCRYPTED PRIVATE KEY-----",
         "the key is encrypted; store it without a passphrase"},
        {"Proc-Type: 4,ENCRYPTED", "the key is encrypted; store it without a passphrase"},
        {"-----BEGIN OPENSSH PRIVATE KEY-----",
         "an OpenSSH key; a PEM key (PKCS#1 or PKCS#8) is needed"},
        {"PRIVATE KEY-----", NULL},
        {"PUBLIC KEY-----", "holds a public key; the private key is needed"},
        {"-----BEGIN CERTIFICATE-----", "holds a certificate; a private key is needed"},
    };

    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        if (memmem(pem->text, pem->len, marks[i].mark, strlen(marks[i].mark)) != NULL)
            return marks[i].fault;
    }
    return "no private key in PEM form (-----BEGIN ... PRIVATE KEY-----)";
}
