/* Counts what the calling thread runs, by a trap after each instruction: exact, and needs neither a
   hardware counter nor the right to trace a process. Thread: the one that is counted; never the
   cycle thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include "../inphase.h"

#if defined(__x86_64__)

#define TRAP_FLAG 0x100UL

/* one thread of the process is counted at a time */
static struct inphase_watched watched;
static struct inphase_ran *ran;
static struct sigaction before;

/* the instruction that is next */
static void trapped(int number, siginfo_t *info, void *context)
{
    const ucontext_t *thread = context;
    uint64_t at = (uint64_t)thread->uc_mcontext.gregs[REG_RIP];
    const uint8_t *code = (const uint8_t *)at;

    (void)number;
    (void)info;
    if (code[0] == 0x0f && code[1] == 0x05) {
        ran->calls++;
        return;
    }
    ran->instructions++;
    ran->own += at >= watched.low && at < watched.high;
    for (int i = 0; i < INPHASE_WATCHED_CALLS; i++) {
        if (watched.allocates[i] == at)
            ran->allocations++;
        if (watched.copies[i] == at)
            ran->copied += thread->uc_mcontext.gregs[REG_RDX];
    }
}

int inphase_trap_begin(const struct inphase_watched *what, struct inphase_ran *out)
{
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};

    watched = *what;
    ran = out;
    memset(out, 0, sizeof *out);
    if (sigaction(SIGTRAP, &action, &before) < 0)
        return -errno;
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | TRAP_FLAG);
    return 0;
}

int inphase_trap_end(void)
{
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~TRAP_FLAG);
    return sigaction(SIGTRAP, &before, NULL) < 0 ? -errno : 0;
}

#else

int inphase_trap_begin(const struct inphase_watched *what, struct inphase_ran *out)
{
    (void)what;
    (void)out;
    return -ENOTSUP;
}

int inphase_trap_end(void)
{
    return -ENOTSUP;
}

#endif
