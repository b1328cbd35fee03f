// Body of a function (url, file, faults): answers requests for `url` from `file` in place of the network. `faults` has one
// entry for each request in turn; when they run out, answers are good. Returns the log: ranges asked for, and "abort".
if (!globalThis.fakeHosts) {
    const network = globalThis.fetch.bind(globalThis);
    globalThis.fakeHosts = new Map();
    globalThis.fetch = (request) => (globalThis.fakeHosts.get(request.url) ?? network)(request);
}
const log = [];
const answer = (request) => {
    log.push(request.headers.get("range"));
    const fault = faults.shift() ?? {};
    const aborted = new Promise((_, reject) => {
        request.signal.addEventListener("abort", () => {
            log.push("abort");
            reject(request.signal.reason);
        });
    });
    aborted.catch(() => {});
    if (fault.refuse) {
        return Promise.reject(new TypeError("Failed to fetch"));
    }
    if (fault.silent) {
        return aborted;
    }
    if (fault.status) {
        return Promise.resolve(new Response("", { status: fault.status, headers: fault.headers ?? {} }));
    }
    const [asked, end] = request.headers.get("range").match(/\d+/g).map(Number);
    const last = Math.min(end, file.length - 1);
    const body = file.slice(asked, last + 1);
    const limit = Math.min(fault.after ?? body.length, body.length);
    const piece = fault.piece ?? 1000;
    let sent = 0;
    const stream = new ReadableStream(
        {
            async pull(controller) {
                if (fault.drip) {
                    await new Promise((done) => setTimeout(done, fault.drip));
                }
                if (sent < limit) {
                    const next = Math.min(sent + piece, limit);
                    controller.enqueue(body.slice(sent, next));
                    sent = next;
                } else if (fault.end === "break") {
                    controller.error(new TypeError("network error"));
                } else if (fault.end === "linger") {
                    await aborted;
                } else if (fault.end === "more") {
                    controller.enqueue(new Uint8Array(1));
                    controller.close();
                } else {
                    controller.close();
                }
            },
        },
        { highWaterMark: 0 },
    );
    const headers = {
        "content-range": fault.range ?? `bytes ${asked}-${last}/${file.length}`,
        etag: fault.etag ?? '"one"',
    };
    return Promise.resolve(new Response(stream, { status: 206, headers }));
};
globalThis.fakeHosts.set(url, answer);
return log;
