/** Exit codes of every command. */
export const EXIT = { failed: 1, usage: 2, notRunning: 3, interrupted: 130 } as const;
