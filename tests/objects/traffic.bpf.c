/* Sections that aya does not know by these names. */
#include "bpf.h"

struct sk_buff {
	u32 length;
};
struct task_struct {
	int tgid;
} KERNEL;

u64 bytes;
u64 calls;

static NOINLINE int count(struct sk_buff *skb)
{
	__sync_fetch_and_add(&bytes, skb->length);
	return 0;
}

SEC("tc")
int classify(struct sk_buff *skb)
{
	return count(skb);
}

SEC("tc")
int classify_again(struct sk_buff *skb)
{
	return count(skb) + 1;
}

SEC("tcx/ingress")
int ingress(struct sk_buff *skb)
{
	return count(skb);
}

SEC("tcx/egress")
int egress(struct sk_buff *skb)
{
	return count(skb);
}

SEC("ksyscall/unlinkat")
int unlinkat(void *context)
{
	struct task_struct *task = current_task();
	int tgid = 0;

	read_kernel(&tgid, sizeof(tgid), &task->tgid);
	if (tgid)
		__sync_fetch_and_add(&calls, 1);
	return 0;
}

SEC("kretsyscall/unlinkat")
int unlinkat_exit(void *context)
{
	printk("left %d", (u32)calls);
	return 0;
}

LICENSE("GPL");
