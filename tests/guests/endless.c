// Never ends: computes, or with the argument `wait` sleeps, or with `stdin` waits for input that
// does not come. Says `started` before.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    puts("started");
    fflush(stdout);
    if (argc > 1 && strcmp(argv[1], "wait") == 0) {
        for (;;)
            sleep(3600);
    }
    if (argc > 1 && strcmp(argv[1], "stdin") == 0) {
        for (;;) {
            char byte;
            if (read(0, &byte, 1) < 0)
                return 1;
        }
    }
    for (volatile unsigned long count = 0;; count++) {
    }
}
