/* Programs that see packets and sockets: a filter of a socket, one of a cgroup's sockets and of
 * its packets, of an interface before and after the network stack has seen a packet. */
#include "bpf.h"

struct sk_buff {
	u32 length;
};
struct sock_ops {
	u32 operation;
};
struct sock_addr {
	u32 family;
	u32 ip4;
	u32 ip6[4];
	u32 port;
};
struct xdp {
	u32 data;
	u32 data_end;
};
struct packet {
	u32 length;
	u8 protocol;
};

struct {
	NUMBER(type, RINGBUF);
	NUMBER(max_entries, 5000);
} packets SEC(".maps");
MAP(operations, PERCPU_ARRAY, u32, u64, 32);

static NOINLINE void count(u32 key)
{
	u64 *counter = map_lookup(&operations, &key);

	if (counter)
		*counter += 1;
}

SEC("socket")
int filter(struct sk_buff *skb)
{
	struct packet *packet = ringbuf_reserve(&packets, sizeof(*packet), 0);

	if (!packet)
		return 0;
	packet->length = skb->length;
	skb_load(skb, 23, &packet->protocol, 1);
	ringbuf_submit(packet, 0);
	return skb->length;
}

SEC("sockops")
int operation(struct sock_ops *context)
{
	count(context->operation & 31);
	return 1;
}

SEC("cgroup_skb/egress")
int egress(struct sk_buff *skb)
{
	count(1);
	return 1;
}

SEC("cgroup_skb/ingress")
int ingress(struct sk_buff *skb)
{
	count(2);
	return 1;
}

SEC("cgroup/connect4")
int connect4(struct sock_addr *context)
{
	return context->port != 0;
}

SEC("cgroup/sock_create")
int create(void *context)
{
	return 1;
}

SEC("xdp")
int pass(struct xdp *context)
{
	count(3);
	return 2;
}

LICENSE("GPL");
