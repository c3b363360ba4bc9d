/* The sandbox of a policy's process, before it runs foreign code: system calls by seccomp, files
   and devices by Landlock, capabilities, and with them any higher priority. Nothing can undo it,
   exec included. Numbers that older kernel headers lack stand here. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../inphase.h"

/* ---- system calls ---------------------------------------------------------------------------- */

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#endif

#define X32_BIT 0x40000000u     /* x86-64: another table of calls */
#define FILTER_MAX 512

struct filter {
    struct sock_filter code[FILTER_MAX];
    unsigned short count;
};

static void put(struct filter *filter, unsigned short code, uint32_t k, uint8_t yes, uint8_t no)
{
    if (filter->count < FILTER_MAX)
        filter->code[filter->count] = (struct sock_filter){code, yes, no, k};
    filter->count++;
}

static void answer(struct filter *filter, uint32_t error)
{
    put(filter, BPF_RET | BPF_K, error ? SECCOMP_RET_ERRNO | error : SECCOMP_RET_ALLOW, 0, 0);
}

static void load(struct filter *filter, size_t offset)
{
    put(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* the low half of an argument: the kernel ignores the rest if a call takes an int */
static void load_argument(struct filter *filter, int index)
{
    load(filter, offsetof(struct seccomp_data, args) + 8 * (size_t)index);
}

/* the next `skip` instructions are for this call alone */
static void unless_call_skip(struct filter *filter, uint32_t call, uint8_t skip)
{
    put(filter, BPF_JMP | BPF_JEQ | BPF_K, call, 0, skip);
}

static void refuse(struct filter *filter, uint32_t call, uint32_t error)
{
    unless_call_skip(filter, call, 1);
    answer(filter, error);
}

/* a call about a process, its first argument: only about this one, by its number or, if zero means
   it, by zero */
static void only_own(struct filter *filter, uint32_t call, bool zero)
{
    unless_call_skip(filter, call, zero ? 5 : 4);
    load_argument(filter, 0);
    if (zero)
        put(filter, BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 0);
    put(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)getpid(), 1, 0);
    answer(filter, EPERM);
    answer(filter, 0);
}

/* a call about a thread: about this one; for another thread nothing is done. It must not fail,
   since a filter cannot see whose thread it is, and libraries (libzmq) end the process if it
   fails */
static void only_this(struct filter *filter, uint32_t call)
{
    unless_call_skip(filter, call, 5);
    load_argument(filter, 0);
    put(filter, BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 0);
    put(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)getpid(), 1, 0);
    put(filter, BPF_RET | BPF_K, SECCOMP_RET_ERRNO, 0, 0);
    answer(filter, 0);
}

/* a call with an argument that must have none of these bits */
static void without_bits(struct filter *filter, uint32_t call, int argument, uint32_t bits)
{
    unless_call_skip(filter, call, 4);
    load_argument(filter, argument);
    put(filter, BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    answer(filter, EPERM);
    answer(filter, 0);
}

static void begin(struct filter *filter)
{
    filter->count = 0;
    load(filter, offsetof(struct seccomp_data, arch));
#ifdef OWN_ARCH
    put(filter, BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH, 1, 0);
#endif
    put(filter, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    load(filter, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
    put(filter, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
    answer(filter, ENOSYS);
#endif
}

/* 0 or an errno; every thread of the process */
static int install(struct filter *filter)
{
    struct sock_fprog program = {filter->count, filter->code};
    long rc;

#ifndef OWN_ARCH
    return ENOTSUP;
#endif
    if (filter->count > FILTER_MAX)
        return E2BIG;
    /* without the mitigation that older kernels add to a filter: it slows all of a network down */
    rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                 SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program);
    return rc < 0 ? errno : rc > 0 ? ESRCH : 0;
}

/* calls that no policy needs: about other processes, the kernel, the machine, and ways around a
   filter */
static const uint32_t never[] = {
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp,
    SYS_tkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo,
    SYS_setpriority, SYS_ioprio_set, SYS_migrate_pages, SYS_move_pages,
    SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_setns, SYS_unshare, SYS_mknodat,
    SYS_open_by_handle_at, SYS_name_to_handle_at, SYS_quotactl, SYS_acct, SYS_swapon, SYS_swapoff,
    SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_keyctl, SYS_add_key, SYS_request_key,
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_syslog,
    SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex,
    SYS_sethostname, SYS_setdomainname, SYS_personality, SYS_vhangup,
    434 /* pidfd_open */, 424 /* pidfd_send_signal */, 438 /* pidfd_getfd */,
    425 /* io_uring_setup, by its number on all machines */, 428 /* open_tree */,
    429 /* move_mount */, 430 /* fsopen */, 440 /* process_madvise */, 442 /* mount_setattr */,
    448 /* process_mrelease */,
#ifdef __x86_64__
    SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_mknod, SYS_kexec_file_load,
#endif
};

static const uint32_t of_network[] = {
    SYS_socket, SYS_connect, SYS_bind, SYS_listen,
};

static const uint32_t of_processes[] = {
    SYS_execve, SYS_execveat,
#ifdef __x86_64__
    SYS_fork, SYS_vfork,
#endif
};

/* calls that change a file without opening it for that; Landlock handles the rest */
static const uint32_t of_files[] = {
    SYS_fchmod, SYS_fchmodat, 452 /* fchmodat2 */, SYS_fchown, SYS_fchownat, SYS_utimensat,
    SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_removexattr, SYS_lremovexattr,
    SYS_fremovexattr, SYS_truncate, SYS_ftruncate, SYS_fallocate,
#ifdef __x86_64__
    SYS_chmod, SYS_chown, SYS_lchown, SYS_utime, SYS_utimes, SYS_futimesat,
#endif
};

/* calls that Landlock would handle, for a kernel without it */
static const uint32_t of_names[] = {
    SYS_unlinkat, SYS_mkdirat, SYS_symlinkat, SYS_linkat, SYS_renameat, SYS_renameat2,
    437 /* openat2 */,
#ifdef __x86_64__
    SYS_unlink, SYS_mkdir, SYS_rmdir, SYS_symlink, SYS_link, SYS_rename, SYS_creat,
#endif
};

/* requests to a descriptor that is no device */
static const uint32_t harmless_ioctls[] = {
    TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX,
};

static void refuse_all(struct filter *filter, const uint32_t *calls, size_t count)
{
    for (size_t i = 0; i < count; i++)
        refuse(filter, calls[i], EPERM);
}
#define REFUSE_ALL(filter, calls) refuse_all(filter, calls, sizeof(calls) / sizeof *(calls))

static void restrict_ioctl(struct filter *filter)
{
    const uint8_t count = sizeof harmless_ioctls / sizeof *harmless_ioctls;

    unless_call_skip(filter, SYS_ioctl, count + 3);
    load_argument(filter, 1);
    for (uint8_t i = 0; i < count; i++)
        put(filter, BPF_JMP | BPF_JEQ | BPF_K, harmless_ioctls[i], count - i, 0);
    answer(filter, EPERM);
    answer(filter, 0);
}

static int restrict_calls(uint32_t allow, bool has_landlock)
{
    struct filter filter;

    begin(&filter);
    REFUSE_ALL(&filter, never);
    if (!(allow & INPHASE_ALLOW_NETWORK))
        REFUSE_ALL(&filter, of_network);
    if (!(allow & INPHASE_ALLOW_FILES))
        REFUSE_ALL(&filter, of_files);

    /* signals, scheduling and limits: this process's own */
    if (!(allow & INPHASE_ALLOW_PROCESSES)) {
        REFUSE_ALL(&filter, of_processes);

        /* threads by clone alone, whose flags a filter sees: libraries then do without clone3 */
        refuse(&filter, SYS_clone3, ENOSYS);
        unless_call_skip(&filter, SYS_clone, 4);
        load_argument(&filter, 0);
        put(&filter, BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0);
        answer(&filter, EPERM);
        answer(&filter, 0);
    }
    unless_call_skip(&filter, SYS_prctl, 4);
    load_argument(&filter, 0);
    put(&filter, BPF_JMP | BPF_JEQ | BPF_K, PR_SET_PDEATHSIG, 0, 1);
    answer(&filter, EPERM);
    answer(&filter, 0);
    only_own(&filter, SYS_kill, false);
    only_own(&filter, SYS_tgkill, false);
    only_own(&filter, SYS_prlimit64, true);
    only_this(&filter, SYS_sched_setscheduler);
    only_this(&filter, SYS_sched_setparam);
    only_this(&filter, SYS_sched_setattr);
    only_this(&filter, SYS_sched_setaffinity);
    if (!(allow & (INPHASE_ALLOW_GPU | INPHASE_ALLOW_DEVICES)))
        restrict_ioctl(&filter);
    if (!has_landlock && !(allow & (INPHASE_ALLOW_FILES | INPHASE_ALLOW_GPU |
                                    INPHASE_ALLOW_DEVICES))) {
        REFUSE_ALL(&filter, of_names);
        without_bits(&filter, SYS_openat, 2, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC);
#ifdef __x86_64__
        without_bits(&filter, SYS_open, 1, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC);
#endif
    }
    answer(&filter, 0);
    return install(&filter);
}

int inphase_sandbox_narrow(void)
{
    /* the calls of a loop that waits for frames, computes and posts; and those of its end */
    static const uint32_t needed[] = {
        SYS_futex, SYS_clock_gettime, SYS_clock_nanosleep, SYS_fcntl, SYS_write, SYS_munmap,
        SYS_madvise, SYS_brk, SYS_mremap, SYS_sched_yield, SYS_rt_sigreturn, SYS_rt_sigaction,
        SYS_rt_sigprocmask, SYS_sigaltstack, SYS_restart_syscall, SYS_close, SYS_exit,
        SYS_exit_group, SYS_getpid, SYS_gettid,
    };
    struct filter filter;

    begin(&filter);
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        refuse(&filter, needed[i], 0);
    without_bits(&filter, SYS_mmap, 2, PROT_EXEC);
    without_bits(&filter, SYS_mprotect, 2, PROT_EXEC);
    only_own(&filter, SYS_tgkill, false);
    answer(&filter, EPERM);
    return -install(&filter);
}

/* ---- files and devices ----------------------------------------------------------------------- */

/* linux/landlock.h, whose newer parts older headers lack */
#define LANDLOCK_CREATE_RULESET 444
#define LANDLOCK_ADD_RULE 445
#define LANDLOCK_RESTRICT_SELF 446
#define LANDLOCK_VERSION 1u
#define LANDLOCK_PATH_BENEATH 1
#define FS_EXECUTE (1u << 0)
#define FS_WRITE_FILE (1u << 1)
#define FS_READ_FILE (1u << 2)
#define FS_READ_DIR (1u << 3)
#define FS_OF_ABI_1 ((1u << 13) - 1)
#define FS_REFER (1u << 13)         /* ABI 2 */
#define FS_TRUNCATE (1u << 14)      /* ABI 3 */
#define NET_TCP 3u                  /* ABI 4: bind and connect */
#define FS_IOCTL_DEV (1u << 15)     /* ABI 5 */
#define SCOPE_SOCKET_AND_SIGNAL 3u  /* ABI 6 */
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

struct landlock_rules {
    uint64_t files, network, scoped;
};
struct landlock_beneath {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));
_Static_assert(sizeof(struct landlock_beneath) == 12, "the kernel's");

struct ruleset {
    int fd;
    uint64_t handled;   /* rights that this kernel knows */
};

/* a folder with everything beneath it, or a file; a missing one is left out */
static void grant(const struct ruleset *rules, int folder, const char *name, uint64_t rights)
{
    struct landlock_beneath rule = {0, openat(folder, name, O_PATH | O_CLOEXEC)};
    struct stat facts;

    if (rule.fd < 0)
        return;
    if (fstat(rule.fd, &facts) == 0) {
        rule.allowed = rights & rules->handled;
        if (!S_ISDIR(facts.st_mode))
            rule.allowed &= FS_OF_FILES;
        syscall(LANDLOCK_ADD_RULE, rules->fd, LANDLOCK_PATH_BENEATH, &rule, 0);
    }
    close(rule.fd);
}

static bool is_gpu(const char *name)
{
    static const char *const of_gpus[] = {"nvidia", "dri", "kfd", "accel", "dxg"};

    for (size_t i = 0; i < sizeof of_gpus / sizeof *of_gpus; i++)
        if (strncmp(name, of_gpus[i], strlen(of_gpus[i])) == 0)
            return true;
    return false;
}

static void grant_files(const struct ruleset *rules, uint32_t allow, const char *scratch)
{
    const uint64_t writing = ~(uint64_t)(FS_EXECUTE | FS_IOCTL_DEV);
    uint64_t rights = FS_READ_FILE | FS_READ_DIR;
    DIR *root = opendir("/");

    if (allow & INPHASE_ALLOW_FILES)
        rights = writing;
    if (allow & INPHASE_ALLOW_PROCESSES)
        rights |= FS_EXECUTE;

    /* everything in / except /dev: a right holds for everything beneath */
    for (const struct dirent *entry; root && (entry = readdir(root));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, "dev") != 0)
            grant(rules, dirfd(root), entry->d_name, rights);
    if (root)
        closedir(root);
    grant(rules, AT_FDCWD, "/", FS_READ_DIR);
    grant(rules, AT_FDCWD, "/dev/shm", FS_READ_FILE | FS_READ_DIR);
    if (scratch)
        grant(rules, AT_FDCWD, scratch, writing);
}

static void grant_devices(const struct ruleset *rules, uint32_t allow)
{
    static const char *const plain[] = {"zero", "full", "random", "urandom"};
    const uint64_t all = FS_READ_FILE | FS_READ_DIR | FS_WRITE_FILE | FS_IOCTL_DEV;
    DIR *folder = opendir("/dev");

    if (!folder)
        return;
    grant(rules, dirfd(folder), "null", FS_READ_FILE | FS_WRITE_FILE | FS_TRUNCATE);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        grant(rules, dirfd(folder), plain[i], FS_READ_FILE);
    for (const struct dirent *entry; (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, "shm") != 0 &&
            ((allow & INPHASE_ALLOW_DEVICES) ||
             ((allow & INPHASE_ALLOW_GPU) && is_gpu(entry->d_name))))
            grant(rules, dirfd(folder), entry->d_name, all);
    closedir(folder);
}

/* this thread, and what it starts; 0 or an errno, and the ABI that holds from now on */
static int restrict_files(uint32_t allow, const char *scratch, int32_t *abi)
{
    struct landlock_rules wanted = {FS_OF_ABI_1, 0, 0};
    long version = syscall(LANDLOCK_CREATE_RULESET, NULL, 0, LANDLOCK_VERSION);
    size_t size = sizeof wanted.files;
    struct ruleset rules;
    int rc = 0;

    *abi = 0;
    if (version < 1)
        return version < 0 ? errno : ENOTSUP;
    if (version >= 2)
        wanted.files |= FS_REFER;
    if (version >= 3)
        wanted.files |= FS_TRUNCATE;
    if (version >= 4) {
        size += sizeof wanted.network;
        wanted.network = allow & INPHASE_ALLOW_NETWORK ? 0 : NET_TCP;
    }
    if (version >= 5)
        wanted.files |= FS_IOCTL_DEV;
    if (version >= 6) {
        size += sizeof wanted.scoped;
        wanted.scoped = allow & INPHASE_ALLOW_NETWORK ? 0 : SCOPE_SOCKET_AND_SIGNAL;
    }
    rules.fd = (int)syscall(LANDLOCK_CREATE_RULESET, &wanted, size, 0);
    if (rules.fd < 0)
        return errno;
    rules.handled = wanted.files;
    grant_files(&rules, allow, scratch);
    grant_devices(&rules, allow);
    if (syscall(LANDLOCK_RESTRICT_SELF, rules.fd, 0) < 0)
        rc = errno;
    else
        *abi = (int32_t)version;
    close(rules.fd);
    return rc;
}

/* ---- other processes of this user ------------------------------------------------------------ */

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC), rc = 0;

    if (fd < 0)
        return errno;
    if (write(fd, text, strlen(text)) < 0)
        rc = errno;
    close(fd);
    return rc;
}

/* a user namespace of its own, in which it is the same user and group; 0 or an errno */
static int enter_namespace(void)
{
    const unsigned user = geteuid(), group = getegid();
    char users[48], groups[48];
    int rc;

    if (unshare(CLONE_NEWUSER) < 0)
        return errno;
    snprintf(users, sizeof users, "%u %u 1", user, user);
    snprintf(groups, sizeof groups, "%u %u 1", group, group);
    rc = write_file("/proc/self/setgroups", "deny");
    if (!rc)
        rc = write_file("/proc/self/uid_map", users);
    return rc ? rc : write_file("/proc/self/gid_map", groups);
}

/* Without Landlock, /proc shows a process the memory and the descriptors of all others of its user;
   not those outside of its user namespace. A child tries it first: half of it would leave this
   process without a user. 0 or an errno */
static int leave_others(void)
{
    int status = 0;
    pid_t child;

    /* root has rights that it gives up: then the others have more, and are kept from it */
    if (geteuid() == 0)
        return 0;
    child = fork();
    if (child == 0)
        _exit(enter_namespace());
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return errno;
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return WIFEXITED(status) ? WEXITSTATUS(status) : ECANCELED;
    return enter_namespace();
}

/* ---- rights ---------------------------------------------------------------------------------- */

/* Keep only the capabilities for opening files, not that for priorities: the runtime gives the
   process its priority from outside. 0 or an errno */
static int drop_capabilities(uint32_t allow)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2];
    uint32_t kept = 1u << CAP_DAC_READ_SEARCH;

    if (allow & (INPHASE_ALLOW_FILES | INPHASE_ALLOW_DEVICES | INPHASE_ALLOW_GPU))
        kept |= 1u << CAP_DAC_OVERRIDE;
    if (allow & INPHASE_ALLOW_GPU)
        kept |= 1u << CAP_IPC_LOCK;
    if (allow & INPHASE_ALLOW_DEVICES)
        kept |= 1u << CAP_SYS_RAWIO;
    if (syscall(SYS_capget, &header, sets) < 0)
        return errno;
    for (int i = 0; i < 2; i++) {
        sets[i].effective &= i ? 0 : kept;
        sets[i].permitted &= i ? 0 : kept;
        sets[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, sets) < 0 ? errno : 0;
}

/* allow a SCHED_FIFO priority up to that one, or up to the present limit, if that is lower and may
   not be raised. 0 or an errno */
static int bound_priority(int32_t priority)
{
    struct rlimit limit, wanted = {(rlim_t)priority, (rlim_t)priority};

    if (getrlimit(RLIMIT_RTPRIO, &limit) < 0)
        return errno;
    if (setrlimit(RLIMIT_RTPRIO, &wanted) == 0)
        return 0;
    wanted.rlim_cur = wanted.rlim_max = limit.rlim_max;
    return setrlimit(RLIMIT_RTPRIO, &wanted) < 0 ? errno : 0;
}

static int32_t count_threads(void)
{
    DIR *folder = opendir("/proc/self/task");
    int32_t count = 0;

    for (const struct dirent *entry; folder && (entry = readdir(folder));)
        count += entry->d_name[0] != '.';
    if (folder)
        closedir(folder);
    return count;
}

void inphase_sandbox_enter(struct inphase_sandbox *sandbox, const char *scratch)
{
    int rc = bound_priority(sandbox->priority);

    sandbox->others = count_threads() - 1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        sandbox->seccomp_errno = sandbox->landlock_errno = errno;
        return;
    }
    sandbox->landlock_errno = restrict_files(sandbox->allow, scratch, &sandbox->landlock_abi);
    sandbox->users_errno = sandbox->landlock_abi ? 0 : leave_others();
    sandbox->capabilities_errno = drop_capabilities(sandbox->allow);
    if (!sandbox->capabilities_errno)
        sandbox->capabilities_errno = rc;
    sandbox->seccomp_errno = restrict_calls(sandbox->allow, sandbox->landlock_abi > 0);
    sandbox->entered = 1;
}
