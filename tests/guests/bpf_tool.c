// link: --export-table
//
// An eBPF tool with the imports of the C SDK, whose arguments are what it does, one after the other;
// each says on a line how it went:
//
//   load FILE             an object from a preopen; what follows is about it
//   error                 why the last load or attachment failed
//   attach PROGRAM [at TARGET | fd NUMBER]
//   map NAME              what follows is about this map
//   lookup KEY BYTES      keys and values in hexadecimal
//   update KEY VALUE FLAGS
//   delete KEY
//   next [KEY | -]
//   poll SAMPLES MS       polls, MS each time, until so many came or none did
//   stop SAMPLES          the callback asks to stop after so many, in the next polls
//   lost
//   use OBJECT            what follows is about this object
//   close
//   ready FILE            makes a file, to tell whoever waits
//   sleep MS
//   pause WORD            says so, and waits for a byte on standard input
//   trap
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IMPORT(NAME) __attribute__((import_module("wasm_bpf"), import_name(#NAME)))

IMPORT(wasm_load_bpf_object) uint64_t load_object(const void *object, int bytes);
IMPORT(wasm_close_bpf_object) int close_object(uint64_t object);
IMPORT(wasm_attach_bpf_program) int attach_program(uint64_t object, const char *name, const char *target);
IMPORT(wasm_attach_bpf_program_fd) int attach_fd(uint64_t object, const char *name, int fd);
IMPORT(wasm_bpf_map_fd_by_name) int map_by_name(uint64_t object, const char *name);
IMPORT(wasm_bpf_map_operate)
int map_operate(int fd, int command, void *key, void *value, void *next_key, uint64_t flags);
IMPORT(wasm_bpf_buffer_poll)
int buffer_poll(uint64_t object, int fd, int (*sample)(void *, void *, int), void *context,
                char *data, int max_size, int timeout_ms);
IMPORT(wasm_bpf_buffer_lost) int64_t buffer_lost(uint64_t object, int fd);
IMPORT(wasm_bpf_last_error) int last_error(char *text, int bytes);

static char data[4096];
static char value[1 << 16];
static int samples, stop_after;

static int sample(void *context, void *bytes, int size) {
    samples++;
    printf("sample %d ", size);
    // Text as it is, and the rest by its numbers.
    const unsigned char *byte = bytes;
    for (int i = 0; i < size && i < 64; i++) {
        if (byte[i] > 32 && byte[i] < 127)
            putchar(byte[i]);
        else
            printf("\\%02x", byte[i]);
    }
    putchar('\n');
    return stop_after && samples >= stop_after;
}

static int hex(const char *text, char *bytes) {
    int length = strlen(text) / 2;
    for (int i = 0; i < length; i++) {
        char digits[3] = {text[2 * i], text[2 * i + 1], 0};
        bytes[i] = strtol(digits, NULL, 16);
    }
    return length;
}

static void show(const char *bytes, int length) {
    for (int i = 0; i < length; i++)
        printf("%02x", (unsigned char)bytes[i]);
    putchar('\n');
}

static void *read_file(const char *path, int *bytes) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    fseek(file, 0, SEEK_END);
    *bytes = ftell(file);
    rewind(file);
    void *object = malloc(*bytes + 1);
    if (fread(object, 1, *bytes, file) != (size_t)*bytes)
        exit(3);
    fclose(file);
    return object;
}

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

int main(int argc, char **argv) {
    uint64_t object = 0;
    int map = -1, key_size = 0, at = 1;
    char key[4096], next_key[4096];
#define NEXT (at < argc ? argv[at++] : (fprintf(stderr, "one argument too few\n"), exit(4), ""))
#define IS(WORD) (strcmp(word, WORD) == 0)
    while (at < argc) {
        const char *word = NEXT;
        if (IS("load")) {
            int bytes;
            void *image = read_file(NEXT, &bytes);
            object = load_object(image, bytes);
            free(image);
            printf("load %llu\n", (unsigned long long)object);
        } else if (IS("error")) {
            last_error(value, sizeof value);
            printf("error %s\n", value);
        } else if (IS("attach")) {
            const char *name = NEXT;
            int answer;
            if (at + 1 < argc && strcmp(argv[at], "at") == 0)
                at++, answer = attach_program(object, name, NEXT);
            else if (at + 1 < argc && strcmp(argv[at], "fd") == 0)
                at++, answer = attach_fd(object, name, atoi(NEXT));
            else
                answer = attach_program(object, name, NULL);
            printf("attach %d\n", answer);
        } else if (IS("map")) {
            map = map_by_name(object, NEXT);
            // Numbers differ from run to run.
            printf("map %d\n", map < 0 ? map : 0);
        } else if (IS("lookup")) {
            hex(NEXT, key);
            int bytes = atoi(NEXT);
            int answer = map_operate(map, 1, key, value, NULL, 0);
            printf("lookup %d ", answer);
            show(value, answer ? 0 : bytes);
        } else if (IS("update")) {
            hex(NEXT, key);
            hex(NEXT, value);
            printf("update %d\n", map_operate(map, 2, key, value, NULL, strtoull(NEXT, NULL, 0)));
        } else if (IS("delete")) {
            hex(NEXT, key);
            printf("delete %d\n", map_operate(map, 3, key, NULL, NULL, 0));
        } else if (IS("next")) {
            const char *text = NEXT;
            int first = strcmp(text, "-") == 0;
            key_size = first ? 4 : hex(text, key);
            int answer = map_operate(map, 4, first ? NULL : key, NULL, next_key, 0);
            printf("next %d ", answer);
            show(next_key, answer ? 0 : key_size);
        } else if (IS("poll")) {
            int wanted = atoi(NEXT), timeout = atoi(NEXT), before = -1, answer = 0;
            samples = 0;
            while (answer == 0 && samples < wanted && samples != before) {
                before = samples;
                answer = buffer_poll(object, map, sample, NULL, data, sizeof data, timeout);
            }
            printf("poll %d %d\n", answer, samples);
        } else if (IS("stop")) {
            stop_after = atoi(NEXT);
        } else if (IS("lost")) {
            printf("lost %lld\n", (long long)buffer_lost(object, map));
        } else if (IS("use")) {
            object = strtoull(NEXT, NULL, 0);
        } else if (IS("close")) {
            printf("close %d\n", close_object(object));
        } else if (IS("ready")) {
            FILE *file = fopen(NEXT, "w");
            if (file)
                fclose(file);
        } else if (IS("sleep")) {
            pause_ms(atol(NEXT));
        } else if (IS("pause")) {
            char byte;
            printf("pause %s\n", NEXT);
            fflush(stdout);
            if (read(0, &byte, 1) != 1)
                return 6;
        } else if (IS("trap")) {
            __builtin_trap();
        } else {
            fprintf(stderr, "%s?\n", word);
            return 5;
        }
        fflush(stdout);
    }
    return 0;
}
