// The socket of an image: a look is one message, its tiles come back one by one, and the newest look counts.

const SILENCE = 10_000; // milliseconds in which a server that is asked says something
const FULL = 2 ** 16; // bytes on their way out: while there are more, only the newest message waits to follow
const LOOK_AGAIN = 20; // milliseconds between two looks whether they are out
const [FIRST, LAST] = [1000, 60_000]; // milliseconds before a lost socket is opened again: doubled each time

/** One socket; it is opened at once, and again when it is needed after it was lost. */
export class Live {
  #address;
  #socket = null;
  #number = 0;
  #asked = null; // {number, text, answer}: the newest question, until it is answered
  #sending = 0; // timers
  #silence = 0;
  #wait = FIRST;
  #again = 0; // when it may be opened once more

  /** `path` is relative to the page's base. */
  constructor(path) {
    this.#address = new URL(path, document.baseURI).href.replace(/^http/, "ws");
    this.#open();
    addEventListener("pagehide", () => this.#drop()); // so that the page can be kept for going back
  }

  /** Whether questions are answered here; if not, it is tried to open it, but not too often. */
  get isOpen() {
    if (!this.#socket && performance.now() >= this.#again) this.#open();
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /**
   * Ask for the tiles of a look, in the words of `tiles:batch`; whoever asked before hears no more.
   *
   * `answer.tile(place, status, data)` is called for each, then `answer.end({status, message})`, which says
   * why there are none where it is not 200; or `answer.lost()`, where the socket was.
   */
  ask(body, answer) {
    const number = (this.#number + 1) % 2 ** 32;
    this.#number = number;
    this.#asked = { number, text: JSON.stringify({ request: number, ...body }), answer };
    this.#send();
    this.#listen();
  }

  #send() {
    clearTimeout(this.#sending);
    if (this.#socket.bufferedAmount > FULL) this.#sending = setTimeout(() => this.#send(), LOOK_AGAIN);
    else this.#socket.send(this.#asked.text);
  }

  /** Wait for the next word; further questions do not make the wait longer. */
  #listen() {
    if (this.#asked) this.#silence ||= setTimeout(() => this.#lose(), SILENCE);
  }

  #open() {
    const socket = (this.#socket = socketTo(this.#address));
    if (!socket) return this.#lose();
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = () => this.#lose();
  }

  #hear(data) {
    this.#wait = FIRST;
    if (data instanceof ArrayBuffer) this.#tile(data);
    else this.#end(JSON.parse(data));
    clearTimeout(this.#silence);
    this.#silence = 0;
    this.#listen();
  }

  #tile(data) {
    const head = new DataView(data, 0, 12);
    const [number, place, status] = [0, 4, 8].map((at) => head.getUint32(at, true));
    if (number === this.#asked?.number) this.#asked.answer.tile(place, status, new Uint8Array(data, 12));
  }

  #end(told) {
    if (told.request !== this.#asked?.number) return;
    const { answer } = this.#asked;
    this.#asked = null;
    answer.end(told);
  }

  /** The socket is gone, or might as well be: what is still wanted is asked for elsewhere. */
  #lose() {
    this.#again = performance.now() + this.#wait;
    this.#wait = Math.min(2 * this.#wait, LAST);
    this.#drop();
  }

  #drop() {
    const [socket, asked] = [this.#socket, this.#asked];
    this.#socket = this.#asked = null;
    for (const timer of [this.#sending, this.#silence]) clearTimeout(timer);
    this.#silence = 0;
    if (socket) Object.assign(socket, { onmessage: null, onclose: null }).close();
    asked?.answer.lost();
  }
}

/** Return a socket; null where the page may have none, which browsers say in their own ways. */
function socketTo(address) {
  try {
    return new WebSocket(address);
  } catch {
    return null;
  }
}
