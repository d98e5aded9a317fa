// link: --export-table
//
// An eBPF tool that measures its calls, as its arguments say:
//
//   stream OBJECT THREAD QUIET SAMPLES ROUNDS
//                  for each round, when so many samples came: how many, when the first and the last
//                  of them, how many of them were out of order, and what the object counted
//   lookup OBJECT COUNT ROUNDS
//                  for each round nanoseconds of so many lookups
//   load OBJECT ROUNDS
//                  for each round nanoseconds of loading it and attaching its two programs
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define IMPORT(NAME) __attribute__((import_module("wasm_bpf"), import_name(#NAME)))

IMPORT(wasm_load_bpf_object) uint64_t load_object(const void *object, int bytes);
IMPORT(wasm_close_bpf_object) int close_object(uint64_t object);
IMPORT(wasm_attach_bpf_program) int attach_program(uint64_t object, const char *name, const char *target);
IMPORT(wasm_bpf_map_fd_by_name) int map_by_name(uint64_t object, const char *name);
IMPORT(wasm_bpf_map_operate)
int map_operate(int fd, int command, void *key, void *value, void *next_key, uint64_t flags);
IMPORT(wasm_bpf_buffer_poll)
int buffer_poll(uint64_t object, int fd, int (*sample)(void *, void *, int), void *context,
                char *data, int max_size, int timeout_ms);
IMPORT(wasm_bpf_last_error) int last_error(char *text, int bytes);

static uint64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void fail(const char *what) {
    static char text[4096];
    last_error(text, sizeof text);
    fprintf(stderr, "%s: %s\n", what, text);
    exit(1);
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
    void *object = malloc(*bytes);
    if (fread(object, 1, *bytes, file) != (size_t)*bytes)
        exit(3);
    fclose(file);
    return object;
}

static uint64_t load(const char *path) {
    int bytes;
    void *object = read_file(path, &bytes);
    uint64_t handle = load_object(object, bytes);
    free(object);
    if (!handle)
        fail("load");
    return handle;
}

static int map(uint64_t object, const char *name) {
    int found = map_by_name(object, name);
    if (found < 0)
        fail(name);
    return found;
}

static uint64_t samples, wanted, last, disordered, first;

static int sample(void *context, void *data, int size) {
    uint64_t number;
    memcpy(&number, data, sizeof number);
    if (number != last + 1)
        disordered++;
    last = number;
    if (samples++ == 0)
        first = now(CLOCK_REALTIME);
    return samples == wanted;
}

static int stream(char **arguments) {
    static char data[4096];
    uint64_t settings[2] = {strtoull(arguments[1], NULL, 0), strtoull(arguments[2], NULL, 0)};
    uint64_t counts[2];
    uint32_t zero = 0;
    wanted = strtoull(arguments[3], NULL, 0);

    uint64_t object = load(arguments[0]);
    int ring = map(object, "ring"), count = map(object, "counts");
    if (map_operate(map(object, "wanted"), 2, &zero, settings, NULL, 0))
        fail("update");
    if (attach_program(object, "to_ring", NULL))
        fail("attach");
    puts("ready");
    fflush(stdout);
    for (int round = atoi(arguments[4]); round > 0; round--) {
        samples = disordered = 0;
        uint64_t before, idle = 0;
        // What does not come in a few seconds does not come.
        do {
            before = samples;
            if (buffer_poll(object, ring, sample, NULL, data, sizeof data, 1000) < 0)
                fail("poll");
            idle = samples == before ? idle + 1 : 0;
        } while (samples < wanted && (samples == 0 ? idle < 60 : idle < 3));
        uint64_t end = now(CLOCK_REALTIME);
        if (map_operate(count, 1, &zero, counts, NULL, 0))
            fail("lookup");
        printf("%llu %llu %llu %llu %llu %llu\n", samples, first, end, disordered, counts[0],
               counts[1]);
        fflush(stdout);
    }
    return 0;
}

static int lookup(char **arguments) {
    int started = map(load(arguments[0]), "started");
    uint32_t key = 1;
    uint64_t value = 7;
    if (map_operate(started, 2, &key, &value, NULL, 0))
        fail("update");
    for (int round = atoi(arguments[2]); round > 0; round--) {
        uint64_t start = now(CLOCK_MONOTONIC);
        for (int left = atoi(arguments[1]); left > 0; left--)
            if (map_operate(started, 1, &key, &value, NULL, 0))
                fail("lookup");
        printf("%llu\n", now(CLOCK_MONOTONIC) - start);
        fflush(stdout);
    }
    return 0;
}

static int loads(char **arguments) {
    int bytes;
    void *file = read_file(arguments[0], &bytes);
    for (int round = atoi(arguments[1]); round > 0; round--) {
        uint64_t start = now(CLOCK_MONOTONIC);
        uint64_t object = load_object(file, bytes);
        if (!object || attach_program(object, "handle_exec", NULL) ||
            attach_program(object, "handle_exit", NULL))
            fail("load");
        printf("%llu\n", now(CLOCK_MONOTONIC) - start);
        fflush(stdout);
        close_object(object);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 7 && strcmp(argv[1], "stream") == 0)
        return stream(argv + 2);
    if (argc == 5 && strcmp(argv[1], "lookup") == 0)
        return lookup(argv + 2);
    if (argc == 4 && strcmp(argv[1], "load") == 0)
        return loads(argv + 2);
    return 4;
}
