// For a wasi-guard whose path checks are switched off (feature `test-unchecked-host`): asks the
// host functions of `wasi_guard_test` for what WASI would never do.
//
//   read PATH | create PATH | unlink PATH | rmdir PATH | mkdir PATH | rename PATH PATH
//   connect ADDRESS:PORT
//
// For each it prints `OPERATION PATH: ` and what it read, `ok`, or `errno N`. Ends with 0 whatever
// the answers are, with 2 if the arguments are wrong.
#include <stdio.h>
#include <string.h>

#define HOST(name) __attribute__((import_module("wasi_guard_test"), import_name(name)))

HOST("open_any") int open_any(const char *path, size_t length, unsigned flags);
HOST("read_any") int read_any(int fd, char *bytes, size_t length);
HOST("write_any") int write_any(int fd, const char *bytes, size_t length);
HOST("unlink_any") int unlink_any(const char *path, size_t length);
HOST("rmdir_any") int rmdir_any(const char *path, size_t length);
HOST("mkdir_any") int mkdir_any(const char *path, size_t length);
HOST("rename_any")
int rename_any(const char *path, size_t length, const char *other, size_t other_length);
HOST("connect_any") int connect_any(const char *address, size_t length);

// The host's numbers (Linux on x86_64), not those of WASI.
#define WRITE_ONLY 1
#define CREATE 0100

static char answer[4096];

static int take(int fd) {
    int count = fd < 0 ? fd : read_any(fd, answer, sizeof answer - 1);
    if (count >= 0)
        answer[count] = 0;
    return count;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc;) {
        const char *operation = argv[i], *path = argv[i + 1];
        if (path == NULL)
            return 2;
        size_t length = strlen(path);
        int result, used = 2;
        strcpy(answer, "ok");
        if (strcmp(operation, "read") == 0)
            result = take(open_any(path, length, 0));
        else if (strcmp(operation, "create") == 0) {
            result = open_any(path, length, WRITE_ONLY | CREATE);
            if (result >= 0)
                result = write_any(result, "made\n", 5);
        } else if (strcmp(operation, "unlink") == 0)
            result = unlink_any(path, length);
        else if (strcmp(operation, "rmdir") == 0)
            result = rmdir_any(path, length);
        else if (strcmp(operation, "mkdir") == 0)
            result = mkdir_any(path, length);
        else if (strcmp(operation, "connect") == 0)
            result = connect_any(path, length);
        else if (strcmp(operation, "rename") == 0 && i + 2 < argc) {
            result = rename_any(path, length, argv[i + 2], strlen(argv[i + 2]));
            used = 3;
        } else
            return 2;
        if (result < 0)
            printf("%s %s: errno %d\n", operation, path, -result);
        else
            printf("%s %s: %s\n", operation, path, answer);
        fflush(stdout);
        i += used;
    }
    return 0;
}
