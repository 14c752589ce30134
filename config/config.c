/* config/config.c - load, share and free a configuration. */
#include "config/config.h"

#include "config/check.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 1024 * 1024 };

/* What a `const struct config *` really points to. */
struct owner {
    struct config config; /* first */
    atomic_size_t references;
    struct arena arena;
};

static struct owner *owner_new(void)
{
    struct owner *owner = calloc(1, sizeof *owner);
    if (owner == NULL) {
        fputs("out of memory\n", stderr);
        abort();
    }
    atomic_init(&owner->references, 1);
    return owner;
}

static void owner_free(struct owner *owner)
{
    arena_free(&owner->arena);
    free(owner);
}

int config_parse(const char *bytes, size_t len, const char *name, const char *folder,
                 const struct config **config_out, struct config_error *error_out)
{
    const struct report report = {name, error_out};
    if (len > FILE_BYTES_MAX)
        return report_at(&report, (struct place){0}, NULL, "larger than 1 MiB");

    struct arena tree = {0};
    struct owner *owner = owner_new();
    const struct build build = {&report, &owner->arena, folder};
    const char *base = strrchr(name, '/');
    owner->config.path = build_path(&owner->arena, folder, base != NULL ? base + 1 : name);

    struct node *root = NULL;
    int rc = node_parse(&report, &tree, bytes, len, &root);
    if (rc == 0)
        rc = build_config(&build, root, &owner->config);
    if (rc == 0)
        rc = check_config(&build, root, &owner->config);
    if (rc == 0)
        *config_out = &owner->config;
    else
        owner_free(owner);
    arena_free(&tree);
    return rc;
}

/* Up to FILE_BYTES_MAX + 1 bytes: one more than allowed tells that there are more. */
static int read_all(const struct report *report, int fd, char *bytes, size_t *len_out)
{
    size_t len = 0;
    while (len < FILE_BYTES_MAX + 1) {
        ssize_t n = read(fd, bytes + len, FILE_BYTES_MAX + 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return report_at(report, (struct place){0}, NULL, "cannot read: %s", strerror(errno));
        if (n == 0)
            break;
        len += (size_t)n;
    }
    *len_out = len;
    return 0;
}

/* The absolute folder of the file. */
static int folder_of(const struct report *report, const char *path, char folder[PATH_MAX])
{
    char given[PATH_MAX] = ".";
    const char *slash = strrchr(path, '/');
    size_t len = slash != NULL ? (size_t)(slash - path) + 1 : 0;
    if (len >= sizeof given)
        return report_at(report, (struct place){0}, NULL, "the path is too long");
    if (len > 0) {
        memcpy(given, path, len);
        given[len] = '\0';
    }
    if (realpath(given, folder) == NULL)
        return report_at(report, (struct place){0}, NULL, "cannot open: %s", strerror(errno));
    return 0;
}

int config_load(const char *path, const struct config **config_out, struct config_error *error_out)
{
    const struct report report = {path, error_out};
    char folder[PATH_MAX];
    if (folder_of(&report, path, folder) < 0)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return report_at(&report, (struct place){0}, NULL, "cannot open: %s", strerror(errno));

    char *bytes = malloc(FILE_BYTES_MAX + 1);
    if (bytes == NULL) {
        fputs("out of memory\n", stderr);
        abort();
    }
    size_t len = 0;
    int rc = read_all(&report, fd, bytes, &len);
    close(fd);
    if (rc == 0)
        rc = config_parse(bytes, len, path, folder, config_out, error_out);
    free(bytes);
    return rc;
}

const struct config *config_ref(const struct config *config)
{
    struct owner *owner = (struct owner *)config;
    atomic_fetch_add_explicit(&owner->references, 1, memory_order_relaxed);
    return config;
}

void config_unref(const struct config **configp)
{
    struct owner *owner = (struct owner *)*configp;
    *configp = NULL;
    if (owner == NULL)
        return;
    if (atomic_fetch_sub_explicit(&owner->references, 1, memory_order_acq_rel) == 1)
        owner_free(owner);
}

bool config_network_contains(const struct config_network *network, bool ipv6, const uint8_t *bytes)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (ipv6 && memcmp(bytes, mapped, sizeof mapped) == 0) {
        ipv6 = false;
        bytes += sizeof mapped;
    }
    if (network->ipv6 != ipv6)
        return false;
    size_t whole = network->prefix / 8;
    unsigned rest = network->prefix % 8;
    if (memcmp(network->bytes, bytes, whole) != 0)
        return false;
    uint8_t mask = (uint8_t)(0xff00u >> rest);
    return rest == 0 || ((network->bytes[whole] ^ bytes[whole]) & mask) == 0;
}
