/* Counts instructions between system calls by single steps: exact, and needs no hardware
   counter. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "yardstick.h"

#define STEPS_MAX 20000000

struct place {
    uint64_t at;      /* address of the next instruction */
    int64_t call;     /* number of the system call, if it is one */
};

static int look(int32_t tid, struct place *place)
{
    struct user_regs_struct registers;
    struct iovec room = {&registers, sizeof registers};

    if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &room) < 0)
        return -errno;
#if defined(__x86_64__)
    place->at = registers.rip;
    place->call = (int64_t)registers.rax;
#elif defined(__aarch64__)
    place->at = registers.pc;
    place->call = (int64_t)registers.regs[8];
#else
#error "say here how to read the program counter"
#endif
    return 0;
}

static bool is_system_call(int32_t tid, const struct place *place)
{
    uint64_t word = (uint64_t)ptrace(PTRACE_PEEKTEXT, tid, (void *)place->at, NULL);

#if defined(__x86_64__)
    return (word & 0xffff) == 0x050f;
#else
    return (word & 0xffffffff) == 0xd4000001;
#endif
}

static int wait_stopped(int32_t tid)
{
    int status;

    if (waitpid(tid, &status, __WALL) < 0)
        return -errno;
    return WIFSTOPPED(status) ? 0 : -ESRCH;
}

int bench_steps(int32_t tid, struct bench_piece *piece, int32_t pieces,
                const struct bench_watched *watched)
{
    struct place place = {0, -1};
    int64_t from = -1, instructions = 0, own = 0;
    int done = 0;
    int rc = 0;

    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0)
        return -errno;
    if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0)
        rc = -errno;
    if (rc == 0)
        rc = wait_stopped(tid);
    for (int64_t steps = 0; rc == 0 && done < pieces && steps < STEPS_MAX; steps++) {
        rc = look(tid, &place);
        if (rc == 0 && is_system_call(tid, &place)) {
            if (from >= 0)
                piece[done++] = (struct bench_piece){from, place.call, instructions, own};
            from = place.call;
            instructions = -1;    /* the step below is the call itself */
            own = 0;
            if (from == watched->last_call)
                break;
        }
        if (rc == 0 && place.at >= watched->low && place.at < watched->high)
            own++;
        if (rc == 0 && ptrace(PTRACE_SINGLESTEP, tid, NULL, NULL) < 0)
            rc = -errno;
        if (rc == 0)
            rc = wait_stopped(tid);
        instructions++;
    }
    ptrace(PTRACE_DETACH, tid, NULL, NULL);
    return rc < 0 ? rc : done;
}
