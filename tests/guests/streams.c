// Shows everything that a command gets: arguments and environment, one a line, then its stdin
// copied to stdout. Says `done` on stderr and ends with exit code 7.
#include <stdio.h>

extern char **environ;

int main(int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        printf("arg %s\n", argv[i]);
    for (char **entry = environ; *entry != NULL; entry++)
        printf("env %s\n", *entry);
    char bytes[4096];
    size_t count;
    while ((count = fread(bytes, 1, sizeof bytes, stdin)) > 0)
        fwrite(bytes, 1, count, stdout);
    fflush(stdout);
    fputs("done\n", stderr);
    return 7;
}
