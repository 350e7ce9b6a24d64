/* Has libvirtd take a lab's shared directory for one that its node shares with others.
 *
 * The hosts of a lab see one directory of the machine below, as if it came over a network. libvirt knows a directory that
 * is shared by the kind of its file system only, and refuses to move a VM live whose disk is on any other. Preloaded, this
 * answers `NFS` for all below /mnt/shared. What libvirtd starts, such as QEMU, sees what is really there.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

enum { NFS = 0x6969 };

static const char shared[] = "/mnt/shared";

__attribute__((constructor)) static void only_here(void) { unsetenv("LD_PRELOAD"); }

static int asked(const char *name, const char *path, void *answer, __typeof__(((struct statfs *)0)->f_type) *type)
{
        int (*real)(const char *, void *) = (int (*)(const char *, void *))dlsym(RTLD_NEXT, name);
        size_t length = sizeof shared - 1;
        int failed = real(path, answer);

        if (!failed && strncmp(path, shared, length) == 0 && (path[length] == '\0' || path[length] == '/'))
                *type = NFS;
        return failed;
}

int statfs(const char *path, struct statfs *answer) { return asked("statfs", path, answer, &answer->f_type); }
int statfs64(const char *path, struct statfs64 *answer) { return asked("statfs64", path, answer, &answer->f_type); }
