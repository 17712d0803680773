// Browsers start no worker on a page that was opened from disk. There the site's search runs in a hidden frame, which is
// spoken to as to a worker.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);
      const inner = this.frame.contentWindow;
      inner.document.open();
      inner.document.write(`<!doctype html><body><script>
        self.importScripts = (...addresses) => addresses.reduce((before, address) => before.then(() =>
          new Promise((done, failed) => {
            const script = document.createElement("script");
            script.src = address;
            script.onload = done;
            script.onerror = failed;
            document.body.appendChild(script);
          })), Promise.resolve());
        self.postMessage = (data) => parent.dispatchEvent(new CustomEvent("worker-answer", {detail: data}));
      <\/script><script src="${address}"><\/script>`);
      inner.document.close();
      window.addEventListener("worker-answer", (event) => {
        const message = new MessageEvent("message", { data: event.detail });
        this.dispatchEvent(message);
        if (this.onmessage) this.onmessage(message);
      });
      this.ready = new Promise((done) => this.frame.addEventListener("load", done, { once: true }));
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
