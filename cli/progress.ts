/** A bar on a terminal, a line every five seconds elsewhere. */
export interface ProgressBar {
  /** @param share 0 to 1; @param text what is being done */
  show(share: number, text: string): void;
  end(): void;
}

const WIDTH = 30;

export function progressBar(out: NodeJS.WriteStream = process.stderr): ProgressBar {
  let shownMs = out.isTTY ? 0 : Date.now();
  let length = 0;
  return {
    show(share, text) {
      const nowMs = Date.now();
      if (nowMs - shownMs < (out.isTTY ? 100 : 5_000)) return;
      shownMs = nowMs;
      const percent = `${String(Math.floor(share * 100)).padStart(3)} %`;
      if (!out.isTTY) {
        out.write(`  ${percent}  ${text}\n`);
        return;
      }
      const filled = Math.round(share * WIDTH);
      const line = `  [${"█".repeat(filled)}${" ".repeat(WIDTH - filled)}] ${percent}  ${text}`;
      out.write(`\r${line.padEnd(length)}`);
      length = line.length;
    },
    end() {
      if (out.isTTY && length > 0) out.write(`\r${" ".repeat(length)}\r`);
    },
  };
}
