// Prints a line. The smallest guest; `hello` on a closed stdout tells on stderr what happened.
#include <errno.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    if (puts("hello") < 0 || fflush(stdout) != 0) {
        fprintf(stderr, "stdout: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
