/* Preloaded: a process that has locked its memory may allocate nothing any more; one that does ends by
   SIGABRT. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

static volatile int is_locked;

int mlockall(int flags)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "mlockall");
    int rc = real(flags);

    is_locked = 1;
    return rc;
}

static void trap(void)
{
    if (is_locked)
        abort();
}

void *malloc(size_t size)
{
    trap();
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    trap();
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    trap();
    return __libc_realloc(memory, size);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *(*real)(void *, size_t, int, int, int, off_t) =
        (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");

    trap();
    return real(at, size, protection, flags, fd, offset);
}
