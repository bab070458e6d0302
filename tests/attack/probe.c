/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a build's package tries once its code runs: each way out of the chroot, each trace that a
 * later build could find. A line "got: WAY" for each that worked, "probe: done" at the end,
 * in /probe-report too. With a word as argument it looks instead for what an earlier run left: "found: TRACE". */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY "mock-cloud-probe"
enum { USER_KEYRING = -4, KEY_SEARCH = 10, PERSISTENT = 22 };

static FILE *report;

static void say(const char *what, const char *more) {
    printf("%s%s\n", what, more);
    fflush(stdout);
    if (report) { fprintf(report, "%s%s\n", what, more); fflush(report); }
}

static void got(const char *way) { say("got: ", way); }

/* What of the node a process with this root sees. */
static void look_at_node(const char *way, const char *root) {
    char path[512], line[600];
    const char *seen[] = {"etc/ssh/ssh_host_ed25519_key", "etc/shadow-of-the-node",
                          "root/secret", "var/lib/mock-cloud/blobs", "var/lib/mock-cloud/layers",
                          "var/lib/mock-cloud/jobs/of-another", NULL};
    for (int i = 0; seen[i]; i++) {
        snprintf(path, sizeof path, "%s/%s", root, seen[i]);
        if (access(path, F_OK) == 0) { snprintf(line, sizeof line, "%s %s", way, seen[i]); got(line); }
    }
    const char *planted[] = {"var/lib/mock-cloud/planted", "var/lib/mock-cloud/layers/planted",
                             "var/lib/mock-cloud/dnf/planted", "var/lib/mock/planted", NULL};
    for (int i = 0; planted[i]; i++) {
        snprintf(path, sizeof path, "%s/%s", root, planted[i]);
        int f = open(path, O_WRONLY | O_CREAT, 0600);
        if (f >= 0) close(f);  /* whether it is the node's is seen there */
    }
}

static void in_child(void (*attempt)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) { alarm(20); attempt(); fflush(stdout); _exit(0); }
    waitpid(child, NULL, 0);
}

static void leave_chroot(void) {
    mkdir("/.way-out", 0700);
    int up = open("/", O_RDONLY | O_DIRECTORY);
    if (chroot("/.way-out") || fchdir(up)) return;
    for (int i = 0; i < 64; i++) if (chdir("..")) return;
    if (chroot(".")) return;
    look_at_node("chroot", "");
    mount("proc", "/proc", "proc", 0, NULL);
    look_at_node("chroot and proc", "/proc/1/root");
}

static void through_proc(void) {
    DIR *all = opendir("/proc");
    struct dirent *entry;
    char root[300];
    while (all && (entry = readdir(all))) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
        snprintf(root, sizeof root, "/proc/%s/root", entry->d_name);
        look_at_node("proc", root);
        snprintf(root, sizeof root, "/proc/%s/cwd", entry->d_name);
        look_at_node("cwd", root);
    }
}

static void join_init(void) {
    int ns = open("/proc/1/ns/mnt", O_RDONLY);
    if (ns >= 0 && setns(ns, CLONE_NEWNS) == 0) look_at_node("setns", "");
}

/* As root of a user namespace of its own, with a proc of its own. */
static void own_user_namespace(void) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS)) return;
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    umount2("/proc/sys", MNT_DETACH);
    umount2("/proc", MNT_DETACH);
    look_at_node("user namespace", "");
    mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL);
    if (open("/proc/sys/kernel/core_pattern", O_WRONLY) >= 0) got("user namespace core_pattern");
    if (mount("proc", "/proc", "proc", 0, NULL) == 0 &&
        open("/proc/sys/kernel/core_pattern", O_WRONLY) >= 0) got("user namespace proc core_pattern");
}

static void disks(void) {
    FILE *list = fopen("/proc/partitions", "r");
    char line[256], name[64];
    unsigned major, minor;
    while (list && fgets(line, sizeof line, list)) {
        if (sscanf(line, "%u %u %*u %63s", &major, &minor, name) != 3) continue;
        unlink("/.disk");
        char byte;
        if (mknod("/.disk", S_IFBLK | 0600, makedev(major, minor)) == 0) {
            int f = open("/.disk", O_RDONLY);
            if (f >= 0 && read(f, &byte, 1) == 1) got("mknod of a disk");
            mkdir("/.mnt", 0700);
            if (mount("/.disk", "/.mnt", "ext4", MS_RDONLY, NULL) == 0) { got("mount of a disk"); umount("/.mnt"); }
        }
        unlink("/.disk");
    }
    if (mknod("/.mem", S_IFCHR | 0600, makedev(1, 1)) == 0 && open("/.mem", O_RDONLY) >= 0) got("mknod of memory");
    unlink("/.mem");
    if (mknod("/.kmsg", S_IFCHR | 0600, makedev(1, 11)) == 0 && open("/.kmsg", O_WRONLY) >= 0) got("mknod of the kernel's log");
    unlink("/.kmsg");
}

static void kernel(void) {
    const char *files[] = {"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger",
        "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper", "/sys/power/state",
        "/sys/kernel/mm/transparent_hugepage/enabled", "/proc/irq/default_smp_affinity",
        "/proc/sys/vm/drop_caches", "/dev/console", NULL};
    for (int i = 0; files[i]; i++) {
        struct stat found; /* one that is masked is /dev/null */
        int at = open(files[i], O_WRONLY);
        if (at >= 0 && fstat(at, &found) == 0 && found.st_rdev != makedev(1, 3)) got(files[i]);
    }
    if (syscall(SYS_init_module, "", 0, "") && errno != EPERM && errno != ENOSYS) got("modules");
    struct timex now = {0};
    adjtimex(&now);
    now.modes = ADJ_TICK;
    if (adjtimex(&now) >= 0) got("the clock");
    if (syscall(SYS_swapoff, "/no-such-file") && errno != EPERM) got("swap");
    if (klogctl(10, NULL, 0) >= 0 && klogctl(8, NULL, 7) >= 0) got("the console's level");
    if (syscall(SYS_quotactl, 0x80000100, NULL, 0, NULL) && errno == EPERM) {}
    mkdir("/.mnt", 0700);
    if (mount("none", "/.mnt", "cgroup2", 0, NULL) == 0) { got("mount of cgroups"); umount("/.mnt"); }
    if (mount("none", "/.mnt", "securityfs", 0, NULL) == 0) { got("mount of securityfs"); umount("/.mnt"); }
}

static void handles(void) {  /* open_by_handle_at(2) opens any inode of a file system by its number */
    struct { struct file_handle head; unsigned inode, generation; } handle = {{8, 1}, 2, 0};
    int f = open("/", O_RDONLY | O_DIRECTORY);
    f = syscall(SYS_open_by_handle_at, f, &handle, O_RDONLY | O_DIRECTORY);
    if (f >= 0 && fchdir(f) == 0) look_at_node("handle", ".");
    f = open("/var/cache/dnf", O_RDONLY | O_DIRECTORY);
    f = syscall(SYS_open_by_handle_at, f, &handle, O_RDONLY | O_DIRECTORY);
    if (f >= 0) got("handle of dnf's cache");
}

static void trace(void) {
    if (ptrace(PTRACE_SEIZE, 1, 0, 0) == 0) { got("ptrace of init"); ptrace(PTRACE_DETACH, 1, 0, 0); }
    if (kill(1, 0) == 0 && kill(getppid(), 0) == 0) {}
    if (open("/proc/1/mem", O_RDWR) >= 0) got("memory of init");
    if (open("/proc/1/environ", O_RDONLY) >= 0) got("environment of init");
}

static void abstract_socket(void) {
    struct sockaddr_un where = {AF_UNIX, "\0mock-cloud-attack"};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(s, (struct sockaddr *)&where, offsetof(struct sockaddr_un, sun_path) + 18) == 0) got("abstract socket");
}

static void dnf_cache(void) {
    DIR *all = opendir("/var/cache/dnf");
    struct dirent *entry;
    char path[600];
    int f = open("/var/cache/dnf/planted", O_WRONLY | O_CREAT, 0644);
    if (f >= 0) close(f);
    while (all && (entry = readdir(all))) {
        snprintf(path, sizeof path, "/var/cache/dnf/%s/planted", entry->d_name);
        if (entry->d_name[0] != '.' && (f = open(path, O_WRONLY | O_CREAT, 0644)) >= 0) close(f);
        snprintf(path, sizeof path, "/var/cache/dnf/%s", entry->d_name);
        if (strstr(path, ".solv") && (f = open(path, O_WRONLY | O_APPEND)) >= 0) { if (write(f, "planted", 7)) {} close(f); }
    }
}

static void stay(void) {  /* a process that outlives its parent, a session and a group of its own */
    if (fork()) return;
    setsid();
    if (fork()) _exit(0);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0); dup2(null, 1); dup2(null, 2);
    signal(SIGTERM, SIG_IGN); signal(SIGHUP, SIG_IGN);
    alarm(0);
    for (;;) sleep(600);
}

static void network(void) {  /* a network namespace that a mount keeps, and a process in it */
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS)) return;
    mkdir("/run/netns", 0755);
    int f = open("/run/netns/" KEY, O_WRONLY | O_CREAT, 0644);
    if (f >= 0) close(f);
    if (mount("/proc/self/ns/net", "/run/netns/" KEY, NULL, MS_BIND, NULL)) {}
    stay();
}

static void leave_traces(void) {
    syscall(SYS_add_key, "user", KEY, "evil", 4, USER_KEYRING);
    long ring = syscall(SYS_keyctl, PERSISTENT, -1, -2);
    if (ring > 0) syscall(SYS_add_key, "user", KEY, "evil", 4, ring);
    shmget(0x6d636c64, 4096, IPC_CREAT | 0666);
    struct mq_attr one = {.mq_maxmsg = 1, .mq_msgsize = 8};
    mq_open("/" KEY, O_CREAT | O_RDWR, 0666, &one);
    const char *places[] = {"/tmp", "/var/tmp", "/dev/shm", "/run", "/var/spool/cron", "/var/cache/ccache",
        "/root", "/builddir", "/var/cache/dnf", "/usr/bin", "/etc/ld.so.preload.d", "/var/spool/at", "/tmp/ccache",
        "/var/tmp/ccache", getenv("CCACHE_DIR") ? getenv("CCACHE_DIR") : "/tmp", NULL};
    char path[300];
    for (int i = 0; places[i]; i++) {
        mkdir(places[i], 0755);
        snprintf(path, sizeof path, "%s/" KEY, places[i]);
        int f = open(path, O_WRONLY | O_CREAT, 0777);
        if (f >= 0) close(f);
    }
    in_child(stay);
    in_child(network);
    struct sockaddr_un where = {AF_UNIX, "\0" KEY};
    if (fork() == 0) {
        setsid();
        int s = socket(AF_UNIX, SOCK_STREAM, 0), null = open("/dev/null", O_RDWR);
        dup2(null, 0); dup2(null, 1); dup2(null, 2);
        if (bind(s, (struct sockaddr *)&where, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(KEY)) == 0) listen(s, 1);
        for (;;) sleep(600);
    }
}

static void found(const char *trace) { say("found: ", trace); }

static void look_for_traces(void) {
    if (syscall(SYS_keyctl, KEY_SEARCH, USER_KEYRING, "user", KEY, 0) > 0) found("user keyring");
    long ring = syscall(SYS_keyctl, PERSISTENT, -1, -2);
    if (ring > 0 && syscall(SYS_keyctl, KEY_SEARCH, ring, "user", KEY, 0) > 0) found("persistent keyring");
    if (syscall(SYS_request_key, "user", KEY, NULL, 0) > 0) found("key");
    FILE *keys = fopen("/proc/keys", "r");
    char line[512];
    while (keys && fgets(line, sizeof line, keys)) if (strstr(line, KEY)) found("key in /proc/keys");
    if (shmget(0x6d636c64, 0, 0) >= 0) found("shared memory");
    if (mq_open("/" KEY, O_RDONLY) != (mqd_t)-1) found("message queue");
    FILE *sockets = fopen("/proc/net/unix", "r");
    while (sockets && fgets(line, sizeof line, sockets)) if (strstr(line, "@" KEY)) found("abstract socket");
    DIR *all = opendir("/proc");
    struct dirent *entry;
    while (all && (entry = readdir(all))) {
        char path[300], name[64] = "";
        snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
        FILE *comm = entry->d_name[0] >= '0' && entry->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (comm && fgets(name, sizeof name, comm) && !strncmp(name, "probe", 5) && atoi(entry->d_name) != getpid()) found("process");
        if (comm) fclose(comm);
    }
    fflush(stdout);
    if (system("find / -xdev -name '" KEY "*' -printf 'found: %p\\n' 2>/dev/null;"
               " find /dev/shm /tmp /var/tmp /run ${CCACHE_DIR:-/tmp} /var/cache/dnf -name '" KEY "*' -printf 'found: %p\\n' 2>/dev/null")) {}
}

int main(int count, char **words) {
    (void)words;
    if (geteuid() == 0 && setuid(0)) {}  /* as a set-uid program the real id too */
    report = fopen("/probe-report", "a");
    say("probe: uid ", geteuid() ? "another" : "0");
    if (count > 1) look_for_traces();
    else {
        in_child(leave_chroot); in_child(through_proc); in_child(join_init); in_child(own_user_namespace);
        in_child(disks); in_child(kernel); in_child(handles); in_child(trace); in_child(abstract_socket);
        in_child(dnf_cache); leave_traces();
    }
    say("probe: done", "");
    return 0;
}
