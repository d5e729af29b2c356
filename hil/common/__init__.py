"""What every simulator needs: a line on a pty, a control socket, and a clean life as a process."""
