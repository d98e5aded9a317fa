// The guest of `cargo xtask demo`: tries one thing after the other and says what came of it.
//
// Each line is `OPERATION PATH: ` and `ok` or the name of the error. What of this is allowed is
// written in policies/demo.toml, not here; tests/src/bin/run-demo.rs has the same list and asks
// the policy about each line. Ends with 0 whatever the answers are.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void say(const char *operation, const char *path, const char *second, int result) {
    const char *answer = "ok";
    if (result < 0)
        answer = errno == EACCES ? "EACCES" : strerror(errno);
    printf("%s %s", operation, path);
    if (second != NULL)
        printf(" %s", second);
    printf(": %s\n", answer);
    fflush(stdout);
}

static void read_file(const char *path) {
    char bytes[64];
    int fd = open(path, O_RDONLY);
    int result = fd < 0 ? -1 : (int)read(fd, bytes, sizeof bytes);
    say("read", path, NULL, result);
    if (fd >= 0)
        close(fd);
}

static void list(const char *path) {
    DIR *directory = opendir(path);
    say("open", path, NULL, directory == NULL ? -1 : 0);
    if (directory != NULL)
        closedir(directory);
}

static void put(const char *operation, const char *path, int flags) {
    static const char text[] = "written by the guest\n";
    int fd = open(path, O_WRONLY | flags, 0666);
    int result = fd < 0 ? -1 : (int)write(fd, text, strlen(text));
    say(operation, path, NULL, result);
    if (fd >= 0)
        close(fd);
}

int main(void) {
    list("/data");
    read_file("/data/in.csv");
    put("write", "/data/in.csv", 0);
    read_file("/data/keys/server.pem");
    read_file("/data/secret/plan.txt");
    put("create", "/data/out/report.txt", O_CREAT | O_EXCL);
    put("write", "/data/out/report.txt", O_APPEND);
    put("create", "/data/report.txt", O_CREAT | O_EXCL);
    say("mkdir", "/data/out/tmp-1", NULL, mkdir("/data/out/tmp-1", 0777));
    say("rmdir", "/data/out/tmp-1", NULL, rmdir("/data/out/tmp-1"));
    say("rmdir", "/data/archive", NULL, rmdir("/data/archive"));
    say("unlink", "/data/out/report.txt", NULL, unlink("/data/out/report.txt"));
    say("rename", "/data/secret/plan.txt", "/data/out/plan.txt",
        rename("/data/secret/plan.txt", "/data/out/plan.txt"));
    say("link", "/data/keys/server.pem", "/data/out/tmp-key",
        link("/data/keys/server.pem", "/data/out/tmp-key"));
    return 0;
}
