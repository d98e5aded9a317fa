// Takes memory. `memory grow MIB` asks for it at once and tells whether it came; `memory touch MIB`
// takes and uses it page by page.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 65536

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    unsigned long pages = strtoul(argv[2], NULL, 10) * 1024 * 1024 / PAGE;
    if (strcmp(argv[1], "grow") == 0) {
        puts(__builtin_wasm_memory_grow(0, pages) == (unsigned long)-1 ? "refused" : "granted");
        return 0;
    }
    for (unsigned long page = 0; page < pages; page++) {
        unsigned long before = __builtin_wasm_memory_grow(0, 1);
        if (before == (unsigned long)-1) {
            puts("refused");
            return 1;
        }
        memset((char *)(before * PAGE), 1, PAGE);
    }
    puts("granted");
    return 0;
}
