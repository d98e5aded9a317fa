// Does to files what its arguments say, one operation after the other, through WASI:
//
//   read PATH | write PATH TEXT | make PATH TEXT | append PATH TEXT | list PATH | stat PATH
//   mkdir PATH | rmdir PATH | unlink PATH | rename PATH PATH | link PATH PATH
//   truncate PATH | times PATH
//   flood PATH COUNT   opens it so many times, from the first byte on stdin on
//   pause WORD         waits for a byte on stdin
//   hold PATH          opens it for reading and writing and keeps it open
//   held PATH          reads what was opened by `hold`, from its beginning, and writes `+` after it
//   free PATH          closes what was opened by `hold`
//   size PATH          asks for the size of what was opened by `hold`
//
// For each it prints `OPERATION PATH: ` and `ok`, what it read, or the name of the error. Ends with
// 0 whatever the answers are, with 2 if the arguments are wrong.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char answer[65536];

static int put(const char *path, int flags, const char *text) {
    int fd = open(path, flags, 0666);
    if (fd < 0)
        return -1;
    ssize_t written = write(fd, text, strlen(text));
    close(fd);
    return written < 0 ? -1 : 0;
}

static int take(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return -1;
    ssize_t count = read(fd, answer, sizeof answer - 1);
    close(fd);
    if (count < 0)
        return -1;
    answer[count] = 0;
    return 0;
}

static int by_name(const void *one, const void *other) {
    return strcmp(*(char *const *)one, *(char *const *)other);
}

static int list(const char *path) {
    DIR *directory = opendir(path);
    if (directory == NULL)
        return -1;
    char *names[256];
    int count = 0;
    for (struct dirent *entry; count < 256 && (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.')
            names[count++] = strdup(entry->d_name);
    closedir(directory);
    qsort(names, count, sizeof names[0], by_name);
    answer[0] = 0;
    for (int i = 0; i < count; i++) {
        strcat(answer, i == 0 ? "" : " ");
        strcat(answer, names[i]);
    }
    return 0;
}

static int flood(const char *path, long count) {
    char byte;
    if (read(0, &byte, 1) != 1)
        return -1;
    long denied = 0;
    for (long i = 0; i < count; i++) {
        int fd = open(path, O_RDONLY);
        if (fd < 0 && errno == EACCES)
            denied++;
        else if (fd >= 0)
            close(fd);
    }
    snprintf(answer, sizeof answer, "%ld denied", denied);
    return 0;
}

static char block[64 * 1024];

/* Reads all of it. */
static int drain(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return -1;
    long long total = 0;
    ssize_t count;
    while ((count = read(fd, block, sizeof block)) > 0)
        total += count;
    snprintf(answer, sizeof answer, "%lld bytes", total);
    close(fd);
    return count < 0 ? -1 : 0;
}

/* Writes so many blocks, and waits until they are on the disk. */
static int fill(const char *path, long blocks) {
    int fd = open(path, O_WRONLY | O_CREAT, 0666);
    if (fd < 0)
        return -1;
    for (long i = 0; i < blocks; i++)
        if (write(fd, block, sizeof block) != sizeof block)
            return -1;
    int result = fsync(fd);
    close(fd);
    return result;
}

static int held_fd = -1;

static int hold(const char *path) {
    int fd = open(path, O_RDWR);
    if (fd < 0)
        return -1;
    held_fd = fd;
    return 0;
}

static int held(void) {
    ssize_t count = pread(held_fd, answer, sizeof answer - 1, 0);
    if (count < 0)
        return -1;
    answer[count] = 0;
    return pwrite(held_fd, "+", 1, count) == 1 ? 0 : -1;
}

static int free_held(void) {
    return close(held_fd);
}

static int wait_for_byte(void) {
    char byte;
    return read(0, &byte, 1) == 1 ? 0 : -1;
}

static const char *name_of(int error) {
    switch (error) {
    case EACCES: return "EACCES";
    case EPERM: return "EPERM";
    case ENOENT: return "ENOENT";
    case EEXIST: return "EEXIST";
    case ENOTEMPTY: return "ENOTEMPTY";
    case ENOTDIR: return "ENOTDIR";
    case EISDIR: return "EISDIR";
    case EROFS: return "EROFS";
    case EXDEV: return "EXDEV";
    case ELOOP: return "ELOOP";
    case EBADF: return "EBADF";
    case EIO: return "EIO";
    case ENOTCAPABLE: return "ENOTCAPABLE";
    default: return strerror(error);
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc;) {
        const char *operation = argv[i], *path = argv[i + 1];
        const char *second = i + 2 < argc ? argv[i + 2] : NULL;
        int result, used = 2;
        if (path == NULL)
            return 2;
        strcpy(answer, "ok");
        errno = 0;
        if (strcmp(operation, "read") == 0)
            result = take(path);
        else if (strcmp(operation, "list") == 0)
            result = list(path);
        else if (strcmp(operation, "drain") == 0)
            result = drain(path);
        else if (strcmp(operation, "stat") == 0) {
            struct stat found;
            result = stat(path, &found);
        } else if (strcmp(operation, "mkdir") == 0)
            result = mkdir(path, 0777);
        else if (strcmp(operation, "rmdir") == 0)
            result = rmdir(path);
        else if (strcmp(operation, "unlink") == 0)
            result = unlink(path);
        else if (strcmp(operation, "truncate") == 0)
            result = put(path, O_WRONLY | O_TRUNC, "");
        else if (strcmp(operation, "pause") == 0)
            result = wait_for_byte();
        else if (strcmp(operation, "hold") == 0)
            result = hold(path);
        else if (strcmp(operation, "held") == 0)
            result = held();
        else if (strcmp(operation, "free") == 0)
            result = free_held();
        else if (strcmp(operation, "size") == 0) {
            struct stat found;
            result = fstat(held_fd, &found);
        } else if (strcmp(operation, "times") == 0) {
            struct timespec then[2] = {{.tv_sec = 5}, {.tv_sec = 5}};
            result = utimensat(AT_FDCWD, path, then, 0);
        } else {
            used = 3;
            if (second == NULL)
                return 2;
            if (strcmp(operation, "write") == 0)
                result = put(path, O_WRONLY, second);
            else if (strcmp(operation, "append") == 0)
                result = put(path, O_WRONLY | O_APPEND, second);
            else if (strcmp(operation, "make") == 0)
                result = put(path, O_WRONLY | O_CREAT | O_EXCL, second);
            else if (strcmp(operation, "rename") == 0)
                result = rename(path, second);
            else if (strcmp(operation, "link") == 0)
                result = link(path, second);
            else if (strcmp(operation, "flood") == 0)
                result = flood(path, strtol(second, NULL, 10));
            else if (strcmp(operation, "fill") == 0)
                result = fill(path, strtol(second, NULL, 10));
            else
                return 2;
        }
        printf("%s %s: %s\n", operation, path, result == 0 ? answer : name_of(errno));
        fflush(stdout);
        i += used;
    }
    return 0;
}
