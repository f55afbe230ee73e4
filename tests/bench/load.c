/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load for the path benchmark.
 *
 *   load NETNS CPU serve ADDRESS PORT              answers until it is killed
 *   load NETNS CPU rr|crr|stream ADDRESS PORT SECONDS
 *
 * NETNS is a path to a namespace. The first byte of a connection says what it is: R one byte in, one byte out until it
 * closes; C the same, once; S everything is read and thrown away. Prints one number: transactions a second (rr, crr) or
 * bits a second (stream).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>

#include "place.h"

static char buffer[256 * 1024];

static socklen_t resolve(const char *text, int port, struct sockaddr_storage *out)
{
	struct sockaddr_in *a4 = (void *)out;
	struct sockaddr_in6 *a6 = (void *)out;
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &a4->sin_addr) == 1) {
		a4->sin_family = AF_INET;
		a4->sin_port = htons(port);
		return sizeof(*a4);
	}
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET6, text, &a6->sin6_addr) != 1)
		fail(text);
	a6->sin6_family = AF_INET6;
	a6->sin6_port = htons(port);
	return sizeof(*a6);
}

static int make_socket(int family)
{
	int one = 1, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fail("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* BBR, where it is the default, punishes the path with the lower minimum round trip. */
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
	return fd;
}

static int open_connection(const struct sockaddr_storage *to, socklen_t length, char kind)
{
	int fd = make_socket(to->ss_family);
	if (connect(fd, (const struct sockaddr *)to, length))
		fail("connect");
	if (kind && send(fd, &kind, 1, MSG_NOSIGNAL) != 1)
		fail("send");
	return fd;
}

static void answer(int fd)
{
	int one = 1;
	char kind, byte;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (recv(fd, &kind, 1, 0) != 1)
		return;
	if (kind == 'S') {
		while (recv(fd, buffer, sizeof(buffer), 0) > 0)
			;
		return;
	}
	if (kind == 'C') {
		(void)!send(fd, "x", 1, MSG_NOSIGNAL);
		(void)!recv(fd, &byte, 1, 0); /* the client closes first: TIME_WAIT is on its side */
		return;
	}
	while (recv(fd, &byte, 1, 0) == 1)
		if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
			return;
}

static void serve(const struct sockaddr_storage *at, socklen_t length)
{
	int fd = make_socket(at->ss_family);
	if (bind(fd, (const struct sockaddr *)at, length) || listen(fd, 128))
		fail("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (client < 0)
			fail("accept");
		answer(client);
		close(client);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_storage address;
	if (argc < 6) {
		fprintf(stderr, "usage: load NETNS CPU serve|rr|crr|stream ADDRESS PORT [SECONDS]\n");
		return 2;
	}
	enter(argv[1], atoi(argv[2]));
	socklen_t length = resolve(argv[4], atoi(argv[5]), &address);
	if (!strcmp(argv[3], "serve"))
		serve(&address, length);
	double seconds = argc > 6 ? atof(argv[6]) : 1, start, end;
	unsigned long count = 0;
	char byte = 'x';
	if (!strcmp(argv[3], "crr")) {
		start = now();
		while ((end = now()) - start < seconds) {
			int fd = open_connection(&address, length, 'C');
			if (recv(fd, &byte, 1, 0) != 1)
				fail("recv");
			close(fd);
			count++;
		}
		printf("%.3f\n", count / (end - start));
		return 0;
	}
	int stream = !strcmp(argv[3], "stream");
	int fd = open_connection(&address, length, stream ? 'S' : 'R');
	start = now();
	while ((end = now()) - start < seconds) {
		if (stream) {
			ssize_t n = send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL);
			if (n <= 0)
				fail("send");
			count += n;
			continue;
		}
		for (int i = 0; i < 16; i++, count++)
			if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1 || recv(fd, &byte, 1, 0) != 1)
				fail("exchange");
	}
	printf("%.3f\n", (stream ? count * 8.0 : count) / (end - start));
	return 0;
}
