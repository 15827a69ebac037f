// Preloaded into the daemon (LD_PRELOAD): counts the calls that change files below one folder and,
// at the one that the test named, kills the process, fails, waits, or holds. The test and the
// daemon share `struct control` through the file that HEDDLE_FAULT names. Programs that the daemon
// runs are counted as well; a kill in one of them takes the daemon with it. Linux and glibc only.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// Mirrored in fault/mod.rs.
enum { OFF, KILL_BEFORE, KILL_AFTER, FAIL, DELAY, HOLD, ORPHAN };
enum { WRITE = 1, SYNC = 2, NAME = 4, CREATE = 8, TRUNCATE = 16, MODE = 32, READ = 256, LEAN = 1 << 30, NO_OBJECTS = 1 << 29 };

struct control {
    uint32_t act;     // what to do
    uint32_t at;      // at which counted call, from 1; DELAY and HOLD do it at each from there
    uint32_t error;   // errno of FAIL
    uint32_t kinds;   // which calls count
    uint32_t lasting; // FAIL every call from there on
    uint32_t millis;  // of DELAY
    uint32_t count;   // calls counted since it was armed
    uint32_t hits;    // how often it acted
    uint32_t kind;    // of the first call that it acted on
    char path[220];   // and its file
    char only[64];    // if set, only files whose path ends so count
};

static struct control *control;
static char under[4096];
static size_t under_len;
static pid_t leader;

__attribute__((constructor)) static void prepare(void) {
    const char *file = getenv("HEDDLE_FAULT"), *folder = getenv("HEDDLE_FAULT_UNDER");
    if (!file || !folder) return;
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0) abort();
    snprintf(under, sizeof under, "%s", folder);
    under_len = strlen(under);
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) abort();
    close(fd);
    const char *led = getenv("HEDDLE_FAULT_LEADER");
    leader = led ? atoi(led) : getpid();
    if (!led) {
        char pid[16];
        snprintf(pid, sizeof pid, "%d", leader);
        setenv("HEDDLE_FAULT_LEADER", pid, 1);
    }
    control = mapped;
}

// As a power cut or a service manager does it: the daemon and what it runs.
static void end_all(void) {
    kill(leader, SIGKILL);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int armed(uint32_t kind) {
    return control && __atomic_load_n(&control->act, __ATOMIC_ACQUIRE) != OFF &&
           (control->kinds & kind);
}

static void rest(uint32_t millis) {
    struct timespec time = {millis / 1000, (millis % 1000) * 1000000L};
    nanosleep(&time, NULL);
}

// Counts one call on `path`; answers what to do: 0, KILL_AFTER or FAIL.
static int step(uint32_t kind, const char *path) {
    if (strncmp(path, under, under_len) != 0) return 0;
    // What symbols are looked up in is a cache, and written whenever there is time.
    if (strstr(path, "/symbols.db") && !strstr(control->only, "symbols.db")) return 0;
    // The steps of the database are walked through by the tests about it.
    if ((control->kinds & LEAN) && kind == WRITE && strstr(path, "/heddle.db")) return 0;
    if ((control->kinds & NO_OBJECTS) && strstr(path, "/objects/")) return 0;
    size_t length = strlen(path), end = strnlen(control->only, sizeof control->only);
    if (length < end || strncmp(path + length - end, control->only, end) != 0) return 0;
    uint32_t number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    uint32_t act = control->act;
    int each = act == DELAY || act == HOLD || control->lasting;
    if (each ? number < control->at : number != control->at) return 0;
    if (__atomic_fetch_add(&control->hits, 1, __ATOMIC_SEQ_CST) == 0) {
        control->kind = kind;
        snprintf(control->path, sizeof control->path, "%s", path + under_len);
    }
    switch (act) {
    case KILL_BEFORE:
        end_all();
    case ORPHAN:
        kill(leader, SIGKILL);
        return 0;
    case DELAY:
        rest(control->millis);
        return 0;
    case HOLD:
        // Arming it anew lets go as well.
        while (__atomic_load_n(&control->act, __ATOMIC_ACQUIRE) == HOLD &&
               __atomic_load_n(&control->hits, __ATOMIC_ACQUIRE) > 0)
            rest(1);
        return 0;
    case FAIL:
        errno = control->error;
        return FAIL;
    default:
        return act;
    }
}

// A path may be relative to an open folder, or to the one that the process stands in.
static int step_at(uint32_t kind, int folder, const char *path) {
    if (!armed(kind) || !path) return 0;
    if (path[0] == '/') return step(kind, path);
    char link[64], whole[8192];
    if (folder == AT_FDCWD) {
        if (!getcwd(whole, 4096)) return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, whole, 4095);
        if (length < 0) return 0;
        whole[length] = 0;
    }
    size_t length = strlen(whole);
    snprintf(whole + length, sizeof whole - length, "/%s", path);
    return step(kind, whole);
}

static int step_path(uint32_t kind, const char *path) { return step_at(kind, AT_FDCWD, path); }

static int step_fd(uint32_t kind, int fd) {
    if (!armed(kind)) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return step(kind, path);
}

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

#define DO(stepped, type, call)                                                                    \
    do {                                                                                           \
        int what_ = (stepped);                                                                     \
        if (what_ == FAIL) return (type)-1;                                                        \
        type result_ = (call);                                                                     \
        if (what_ == KILL_AFTER) end_all();                                                        \
        return result_;                                                                            \
    } while (0)

ssize_t write(int fd, const void *bytes, size_t n) {
    DO(step_fd(WRITE, fd), ssize_t, REAL(write)(fd, bytes, n));
}
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) {
    DO(step_fd(WRITE, fd), ssize_t, REAL(pwrite)(fd, bytes, n, at));
}
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) {
    DO(step_fd(WRITE, fd), ssize_t, REAL(pwrite64)(fd, bytes, n, at));
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
    DO(step_fd(WRITE, fd), ssize_t, REAL(writev)(fd, parts, n));
}
ssize_t read(int fd, void *bytes, size_t n) {
    DO(step_fd(READ, fd), ssize_t, REAL(read)(fd, bytes, n));
}
int fsync(int fd) { DO(step_fd(SYNC, fd), int, REAL(fsync)(fd)); }
int fdatasync(int fd) { DO(step_fd(SYNC, fd), int, REAL(fdatasync)(fd)); }
int ftruncate(int fd, off_t size) { DO(step_fd(TRUNCATE, fd), int, REAL(ftruncate)(fd, size)); }
int ftruncate64(int fd, off64_t size) {
    DO(step_fd(TRUNCATE, fd), int, REAL(ftruncate64)(fd, size));
}
int syncfs(int fd) { DO(step_fd(SYNC, fd), int, REAL(syncfs)(fd)); }
int futimens(int fd, const struct timespec times[2]) {
    DO(step_fd(MODE, fd), int, REAL(futimens)(fd, times));
}
int utimensat(int folder, const char *path, const struct timespec times[2], int flags) {
    DO(step_at(MODE, folder, path), int, REAL(utimensat)(folder, path, times, flags));
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags) {
    DO(step_fd(WRITE, out), ssize_t, REAL(copy_file_range)(in, from, out, to, n, flags));
}
ssize_t sendfile(int out, int in, off_t *at, size_t n) {
    DO(step_fd(WRITE, out), ssize_t, REAL(sendfile)(out, in, at, n));
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t n) {
    DO(step_fd(WRITE, out), ssize_t, REAL(sendfile64)(out, in, at, n));
}
int rename(const char *from, const char *to) {
    DO(step_path(NAME, to), int, REAL(rename)(from, to));
}
int renameat(int a, const char *from, int b, const char *to) {
    DO(step_at(NAME, b, to), int, REAL(renameat)(a, from, b, to));
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    DO(step_at(NAME, b, to), int, REAL(renameat2)(a, from, b, to, flags));
}
int link(const char *from, const char *to) { DO(step_path(NAME, to), int, REAL(link)(from, to)); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    DO(step_at(NAME, b, to), int, REAL(linkat)(a, from, b, to, flags));
}
int unlink(const char *path) { DO(step_path(NAME, path), int, REAL(unlink)(path)); }
int unlinkat(int folder, const char *path, int flags) {
    DO(step_at(NAME, folder, path), int, REAL(unlinkat)(folder, path, flags));
}
int rmdir(const char *path) { DO(step_path(NAME, path), int, REAL(rmdir)(path)); }
int remove(const char *path) { DO(step_path(NAME, path), int, REAL(remove)(path)); }
int mkdir(const char *path, mode_t mode) {
    DO(step_path(CREATE, path), int, REAL(mkdir)(path, mode));
}
int mkdirat(int folder, const char *path, mode_t mode) {
    DO(step_at(CREATE, folder, path), int, REAL(mkdirat)(folder, path, mode));
}
int symlink(const char *target, const char *path) {
    DO(step_path(CREATE, path), int, REAL(symlink)(target, path));
}
int symlinkat(const char *target, int folder, const char *path) {
    DO(step_at(CREATE, folder, path), int, REAL(symlinkat)(target, folder, path));
}
int chmod(const char *path, mode_t mode) { DO(step_path(MODE, path), int, REAL(chmod)(path, mode)); }
int fchmod(int fd, mode_t mode) { DO(step_fd(MODE, fd), int, REAL(fchmod)(fd, mode)); }
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    DO(step_at(MODE, folder, path), int, REAL(fchmodat)(folder, path, mode, flags));
}

#define MODE_OF(flags)                                                                             \
    mode_t mode = 0;                                                                               \
    if (flags & O_CREAT) {                                                                         \
        va_list list;                                                                              \
        va_start(list, flags);                                                                     \
        mode = va_arg(list, mode_t);                                                               \
        va_end(list);                                                                              \
    }
#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        MODE_OF(flags)                                                                             \
        DO((flags & O_CREAT) ? step_path(CREATE, path) : 0, int, REAL(name)(path, flags, mode));   \
    }
#define OPENAT(name)                                                                               \
    int name(int folder, const char *path, int flags, ...) {                                       \
        MODE_OF(flags)                                                                             \
        DO((flags & O_CREAT) ? step_at(CREATE, folder, path) : 0, int,                             \
           REAL(name)(folder, path, flags, mode));                                                 \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
