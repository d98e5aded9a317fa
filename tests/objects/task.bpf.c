/* Runs for a cgroup, and calls what leads to all memory. */
#include "bpf.h"

SEC("sockops")
int operation(void *context)
{
	return current_task() != 0;
}

LICENSE("GPL");
