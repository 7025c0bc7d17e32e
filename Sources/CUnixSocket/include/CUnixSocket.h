// What Unix sockets can do and Swift cannot say: the macros of control messages, and structures that the C library declares only to those
// who ask for GNU's extensions. Compiled, not inline, so that no header of the system's becomes a part of this module.

#ifndef CUNIXSOCKET_H
#define CUNIXSOCKET_H

// So many descriptors go with a message at most.
#define TOCSIN_DESCRIPTORS_MAX 16

// Sends bytes, and descriptors with the first of them (SCM_RIGHTS, unix(7)). Returns what sendmsg(2) returns.
long tocsin_send_descriptors(int socket, const void *bytes, unsigned long count, const int *descriptors, int number);

// The other side: up to `room` descriptors, which are closed when another program is executed. Those that have no room are closed at once.
// Returns what recvmsg(2) returns.
long tocsin_receive_descriptors(int socket, void *bytes, unsigned long count, int *descriptors, int room, int *number);

// Who is at the other end (SO_PEERCRED, unix(7)). Returns 0 if it is known.
int tocsin_peer(int socket, unsigned int *user, int *process);

// bind(2) and connect(2) to a path, which has to be short enough: ENAMETOOLONG.
int tocsin_bind_path(int socket, const char *path);
int tocsin_connect_path(int socket, const char *path);

// Which file a path names: its mode, device and number. Returns 0 if there is one.
int tocsin_file_identity(const char *path, unsigned int *mode, unsigned long *device, unsigned long *number);

#endif
