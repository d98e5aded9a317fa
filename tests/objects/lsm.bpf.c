/* Refuses to remove directories while a variable says so, and prints that it was asked. */
#include "bpf.h"

int refuse;

SEC("lsm/path_rmdir")
int path_rmdir(u64 *context)
{
	printk("path_rmdir by %d", (u32)(pid_tgid() >> 32));
	return refuse ? -1 : 0;
}

LICENSE("GPL");
