/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams at a steady rate, no tuple twice.
 *
 *   flood NETNS CPU ADDRESS FIRST_SOURCE SOURCES FIRST_PORT PORTS RATE COUNT
 *
 * Sends COUNT UDP datagrams of one byte from inside the namespace (a path), RATE a second (0: as fast as it goes), in
 * batches by sendmmsg. Number n goes from source port FIRST_SOURCE + n / PORTS to port FIRST_PORT + h(n % PORTS), where
 * h takes the lower and the upper half of the ports in turn. Prints how many the kernel took, and in how many seconds;
 * one that it refuses is an error.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sys/socket.h>

#include "place.h"

#define BATCH 64

static int bound(int port)
{
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_port = htons(port) };
	int size = 1 << 22, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fail("socket");
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (bind(fd, (struct sockaddr *)&from, sizeof(from)))
		fail("bind");
	return fd;
}

int main(int argc, char **argv)
{
	static struct sockaddr_in to[BATCH];
	static struct mmsghdr messages[BATCH];
	struct iovec byte = { .iov_base = "x", .iov_len = 1 };
	if (argc != 10) {
		fprintf(stderr, "usage: flood NETNS CPU ADDRESS FIRST_SOURCE SOURCES FIRST_PORT PORTS RATE COUNT\n");
		return 2;
	}
	int first_source = atoi(argv[4]), sources = atoi(argv[5]), first = atoi(argv[6]), ports = atoi(argv[7]);
	double rate = atof(argv[8]);
	long count = atol(argv[9]), sent = 0;
	if (count > (long)sources * ports) {
		fprintf(stderr, "flood: there are only %ld tuples\n", (long)sources * ports);
		return 2;
	}
	enter(argv[1], atoi(argv[2]));
	int *fds = calloc(sources, sizeof(int));
	for (int i = 0; i < sources; i++)
		fds[i] = bound(first_source + i);
	for (int i = 0; i < BATCH; i++) {
		to[i].sin_family = AF_INET;
		if (inet_pton(AF_INET, argv[3], &to[i].sin_addr) != 1)
			fail(argv[3]);
		messages[i].msg_hdr = (struct msghdr){
			.msg_name = &to[i], .msg_namelen = sizeof(to[i]), .msg_iov = &byte, .msg_iovlen = 1
		};
	}
	double start = now();
	while (sent < count) {
		long offset = sent % ports;
		int n = BATCH;
		if (n > ports - offset)
			n = ports - offset; /* a batch is of one socket */
		if (n > count - sent)
			n = count - sent;
		for (int i = 0; i < n; i++) {
			long at = offset + i;
			to[i].sin_port = htons(first + (at & 1 ? ports / 2 : 0) + at / 2);
		}
		int took = sendmmsg(fds[sent / ports], messages, n, 0);
		if (took <= 0)
			fail("sendmmsg");
		sent += took;
		if (rate > 0) {
			double early = sent / rate - (now() - start);
			if (early > 0.0002) {
				struct timespec pause = { 0, (long)(early * 1e9) };
				nanosleep(&pause, NULL);
			}
		}
	}
	printf("%ld %.3f\n", sent, now() - start);
	return 0;
}
