/* mta/privilege.c - see privilege.h. capset(2) is called directly: libcap would be a library for
 * one call. */
#include "mta/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int find_account(const char *name, struct privilege *out, char *error, size_t error_size)
{
    char buffer[4096];
    struct passwd entry, *found = NULL;
    int rc = getpwnam_r(name, &entry, buffer, sizeof buffer, &found);
    if (rc != 0 || found == NULL) {
        snprintf(error, error_size, "user: there is no account \"%s\" on this machine%s%s", name,
                 rc != 0 ? ": " : "", rc != 0 ? strerror(rc) : "");
        return -1;
    }
    out->uid = entry.pw_uid;
    out->gid = entry.pw_gid;
    snprintf(out->name, sizeof out->name, "%s", name);
    return 0;
}

int privilege_find(const char *configured, struct privilege *out, char *error, size_t error_size)
{
    *out = (struct privilege){.uid = geteuid(), .gid = getegid()};
    if (geteuid() != 0) {
        struct privilege wanted = *out;
        if (configured == NULL)
            return 0;
        if (find_account(configured, &wanted, error, error_size) < 0)
            return -1;
        if (wanted.uid != out->uid) {
            snprintf(error, error_size,
                     "user: only root can become \"%s\"; start mtad as root or remove the key",
                     configured);
            return -1;
        }
        return 0;
    }
    if (configured != NULL && strcmp(configured, "root") == 0) {
        out->stay_root = true;
        snprintf(out->name, sizeof out->name, "root");
        return 0;
    }
    if (find_account(configured != NULL ? configured : "mta", out, error, error_size) < 0) {
        if (configured == NULL)
            snprintf(error, error_size,
                     "started as root, but there is no account \"mta\" to run as; make one "
                     "(useradd --system --home-dir /var/lib/mta --shell /usr/sbin/nologin mta), or "
                     "name another "
                     "with `user:` in the configuration");
        return -1;
    }
    out->drop = out->uid != 0;
    out->stay_root = out->uid == 0;
    return 0;
}

/* A new folder's name must survive a power cut as the mail in it does. */
static int sync_parent(const char *path)
{
    char parent[4096];
    (void)snprintf(parent, sizeof parent, "%s/..", path);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES ? 0 : -1; /* its owner's matter */
    int rc = fsync(fd) == 0 || errno == EINVAL || errno == EOPNOTSUPP ? 0 : -1;
    (void)close(fd);
    return rc;
}

int privilege_prepare_folder(const struct privilege *privilege, const char *path, char *error,
                             size_t error_size)
{
    struct stat st;
    if (mkdir(path, 0750) == 0) {
        if (privilege->drop && chown(path, privilege->uid, privilege->gid) < 0) {
            snprintf(error, error_size, "%s: cannot be given to %s: %s", path, privilege->name,
                     strerror(errno));
            return -1;
        }
        if (sync_parent(path) < 0) {
            snprintf(error, error_size, "state_dir: the folder above %s cannot be synced: %s", path,
                     strerror(errno));
            return -1;
        }
        return 0;
    }
    if (errno != EEXIST || stat(path, &st) < 0) {
        snprintf(error, error_size, "state_dir: %s cannot be made: %s", path, strerror(errno));
        return -1;
    }
    if (!S_ISDIR(st.st_mode)) {
        snprintf(error, error_size, "state_dir: %s is not a folder", path);
        return -1;
    }
    return 0;
}

/* A container may deny even this: then a reload cannot bind further low ports, all else works. */
static void keep_bind_capability(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    data[0].permitted = data[0].effective = 1u << CAP_NET_BIND_SERVICE;
    (void)syscall(SYS_capset, &header, data);
}

int privilege_drop(const struct privilege *privilege, char *error, size_t error_size)
{
    if (!privilege->drop)
        return 0;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || initgroups(privilege->name, privilege->gid) < 0 ||
        setresgid(privilege->gid, privilege->gid, privilege->gid) < 0 ||
        setresuid(privilege->uid, privilege->uid, privilege->uid) < 0) {
        snprintf(error, error_size, "cannot become %s: %s", privilege->name, strerror(errno));
        return -1;
    }
    if (setuid(0) == 0) {
        snprintf(error, error_size, "root could be regained after it was dropped");
        return -1;
    }
    keep_bind_capability();
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return 0;
}

void privilege_set_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}
