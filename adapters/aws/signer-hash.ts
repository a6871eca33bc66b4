import { createHash, createHmac } from "node:crypto";

/** SHA-256 in the form that the AWS SDK's request signer wants. */
export class SignerHash {
  private readonly digester;
  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.digester = secret === undefined ? createHash("sha256") : createHmac("sha256", asBytes(secret));
  }
  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.digester.update(asBytes(data));
  }
  async digest(): Promise<Uint8Array> {
    return this.digester.digest();
  }
  reset(): void {}
}
const asBytes = (data: string | ArrayBuffer | ArrayBufferView): Uint8Array =>
  typeof data === "string"
    ? Buffer.from(data)
    : ArrayBuffer.isView(data)
      ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
      : new Uint8Array(data);
