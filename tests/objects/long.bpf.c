/* A program of 302 instructions. */
#include "bpf.h"

SEC("raw_tp/sys_enter")
int many(void *context)
{
	__asm__ volatile(".rept 300\nr1 = 0\n.endr" ::: "r1");
	return 0;
}

LICENSE("GPL");
