/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PID 1 of a guest: loads modules, puts a throw-away layer over the host's files, runs one command in it.
 *
 * /modules/order names the modules in order of need; /job holds, each ended by a zero byte, the working directory and
 * the command. What the command prints goes to the serial port named "output", its exit code to "code".
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(void)
{
	sync();
	reboot(RB_AUTOBOOT); /* qemu was told not to */
}

static void die(const char *what)
{
	printf("init: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	end();
}

static void mount_at(const char *source, const char *target, const char *type, unsigned long flags, const char *options)
{
	mkdir(target, 0755);
	if (mount(source, target, type, flags, options))
		die(target);
}

static void load_modules(void)
{
	char name[256], path[300];
	FILE *order = fopen("/modules/order", "r");

	if (!order)
		die("/modules/order");
	while (fscanf(order, "%255s", name) == 1) {
		snprintf(path, sizeof(path), "/modules/%s", name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
			die(path);
		close(fd);
	}
	fclose(order);
}

/* There is no udev to name ports: sysfs knows which is which. */
static int find_port(const char *wanted)
{
	char path[512], name[64];
	DIR *ports = opendir("/sys/class/virtio-ports");

	for (struct dirent *one; ports && (one = readdir(ports));) {
		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", one->d_name);
		FILE *file = fopen(path, "r");
		int same = file && fscanf(file, "%63s", name) == 1 && !strcmp(name, wanted);

		if (file)
			fclose(file);
		if (same) {
			snprintf(path, sizeof(path), "/dev/%s", one->d_name);
			closedir(ports);
			return open(path, O_WRONLY | O_CLOEXEC);
		}
	}
	if (ports)
		closedir(ports);
	errno = ENODEV;
	return -1;
}

/* A port gets its name from qemu some time after its driver is loaded; on a busy host that can be a while. */
static int open_port(const char *wanted)
{
	for (int i = 0; i < 1500; i++) {
		int fd = find_port(wanted);

		if (fd >= 0)
			return fd;
		usleep(20000);
	}
	die(wanted);
	return -1;
}

static char **read_job(char **folder)
{
	static char text[16384];
	static char *words[512];
	int fd = open("/job", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (length <= 0)
		die("/job");
	int count = 0;

	for (char *at = text; at < text + length && count < 511; at += strlen(at) + 1)
		words[count++] = at;
	close(fd);
	*folder = words[0];
	return words + 1;
}

static void loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request))
		die("lo");
	close(fd);
}

int main(void)
{
	char *folder, **command = read_job(&folder);

	mount_at("devtmpfs", "/dev", "devtmpfs", 0, "");
	int console = open("/dev/console", O_WRONLY | O_NOCTTY);

	if (console >= 0)
		dup2(console, 1);
	mount_at("proc", "/proc", "proc", 0, "");
	mount_at("sys", "/sys", "sysfs", 0, "");
	load_modules();
	int output = open_port("output"), code = open_port("code");

	mount_at("root", "/lower", "9p", MS_RDONLY, "trans=virtio,version=9p2000.L,cache=loose,msize=512000");
	mount_at("upper", "/upper", "tmpfs", 0, "size=75%");
	mkdir("/upper/files", 0755);
	mkdir("/upper/work", 0755);
	mount_at("overlay", "/root", "overlay", 0, "lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work");
	mount_at("/dev", "/root/dev", NULL, MS_MOVE, NULL);
	mount_at("/proc", "/root/proc", NULL, MS_MOVE, NULL);
	mount_at("/sys", "/root/sys", NULL, MS_MOVE, NULL);
	if (chdir("/root") || mount("/root", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		die("the new root");
	mount_at("run", "/run", "tmpfs", 0, "");
	mount_at("shm", "/dev/shm", "tmpfs", 0, "");
	mount_at("bpf", "/sys/fs/bpf", "bpf", 0, "mode=0700");
	mount_at("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, "");
	loopback_up();

	pid_t child = fork();

	if (!child) {
		int nothing = open("/dev/null", O_RDONLY);

		setsid();
		if (nothing < 0 || dup2(nothing, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0 || chdir(folder))
			_exit(126);
		execv(command[0], command);
		dprintf(2, "%s: %s\n", command[0], strerror(errno));
		_exit(127);
	}
	int status = 0;
	pid_t ended;

	while ((ended = wait(&status)) != child)
		if (ended < 0)
			die("wait");
	dprintf(code, "%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	end();
	return 0;
}
