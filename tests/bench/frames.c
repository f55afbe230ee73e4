/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over a device, for the cost of the programs they meet:
 *
 *   frames DEVICE COUNT FIRST FLOWS SEED OFFSET HEX
 *
 * COUNT copies of the frame, each with the source port FIRST + n in the two bytes at OFFSET; n goes round through FLOWS, or
 * with SEED not 0 is drawn from them. Sends in batches and waits for nothing.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "place.h"

#define BATCH 32

int main(int argc, char **argv)
{
	static unsigned char frames[BATCH][256];
	struct mmsghdr messages[BATCH] = {};
	struct iovec parts[BATCH];
	struct sockaddr_ll to = { .sll_family = AF_PACKET };
	unsigned long count, first, flows, seed, offset, length, sent = 0;
	int fd, on = 1;

	if (argc != 8)
		return fprintf(stderr, "frames: DEVICE COUNT FIRST FLOWS SEED OFFSET HEX\n"), 2;
	count = strtoul(argv[2], NULL, 10);
	first = strtoul(argv[3], NULL, 10);
	flows = strtoul(argv[4], NULL, 10);
	seed = strtoul(argv[5], NULL, 10);
	offset = strtoul(argv[6], NULL, 10);
	length = strlen(argv[7]) / 2;
	if (!flows || length > sizeof(frames[0]) || offset + 2 > length)
		return fprintf(stderr, "frames: that does not fit\n"), 2;
	for (int b = 0; b < BATCH; b++) {
		for (unsigned long i = 0; i < length; i++) {
			unsigned int byte;

			sscanf(argv[7] + 2 * i, "%2x", &byte);
			frames[b][i] = byte;
		}
		parts[b] = (struct iovec){ frames[b], length };
		messages[b].msg_hdr.msg_iov = &parts[b];
		messages[b].msg_hdr.msg_iovlen = 1;
		messages[b].msg_hdr.msg_name = &to;
		messages[b].msg_hdr.msg_namelen = sizeof(to);
	}
	to.sll_ifindex = if_nametoindex(argv[1]);
	if (!to.sll_ifindex)
		fail(argv[1]);
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)))
		fail("socket");
	while (sent < count) {
		for (int b = 0; b < BATCH; b++) {
			unsigned long n = (sent + b) % flows;
			unsigned short port;

			if (seed) {
				seed = seed * 6364136223846793005UL + 1442695040888963407UL;
				n = (seed >> 33) % flows;
			}
			port = htons(first + n);
			memcpy(frames[b] + offset, &port, 2);
		}
		int done = sendmmsg(fd, messages, BATCH, 0);
		if (done < 0 && errno != ENOBUFS)
			fail("sendmmsg");
		sent += done > 0 ? done : 0;
	}
	return 0;
}
