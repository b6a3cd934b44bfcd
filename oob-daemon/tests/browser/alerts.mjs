// Alerts of a test: raised by Sam through the API where the daemon has them, else played by the test as the API's contract
// has them, which shows the page and says so.

export async function alerts({ dana, sam, third }) {
  const { status } = await dana.ask("alerts");
  return status === 200 ? real(dana, sam) : played(await dana.me(), await sam.me(), third);
}

function real(dana, sam) {
  return {
    real: true,
    serve: undefined,
    /** The page hears of it by itself. */
    told: async () => {},
    /** Sam acknowledges. */
    answer: (id) => sam.ask(`alerts/${id}/ack`, {}),
    /** Pages to whom nobody raised anything. */
    none: (context) => context.route("**/api/v1/alerts", (route) => route.fulfill({ json: { alerts: [] } })),
    async raise(text, severity) {
      const { json } = await sam.ask("alerts", { text, severity });
      return json.id;
    },
    async acknowledged(id) {
      for (;;) {
        const { acked } = await sam.get(`alerts/${id}`);
        if (acked.length > 0) return acked.map((one) => one.member);
      }
    },
  };
}

function played(dana, sam, rosa) {
  const all = [];
  const make = (text, severity, author) => {
    const outgoing = author === dana;
    const alert = {
      id: `alert${all.length}aaaaaaaaaaaaaa`,
      author,
      author_name: outgoing ? "Dana" : "Sam",
      severity,
      text,
      issued: new Date().toISOString(),
      expires: new Date(Date.now() + 3_600_000).toISOString(),
      outgoing,
      acked: [],
      pending: [outgoing ? sam : dana],
      pending_names: [outgoing ? "Sam" : "Dana"],
      unreachable: [rosa],
      unreachable_names: ["Rosa"],
    };
    all.unshift(alert);
    return alert;
  };
  return {
    real: false,
    /** Without a daemon that tells it, the page looks again. */
    told: async (page) => {
      await page.page.reload();
      await page.ready();
    },
    async answer(id) {
      const alert = all.find((one) => one.id === id);
      alert.acked.push({ member: sam, name: "Sam", time: new Date().toISOString(), answer: "on my way" });
      Object.assign(alert, { pending: [], pending_names: [] });
    },
    async serve(context) {
      await context.route("**/api/v1/alerts", (route) => {
        const request = route.request();
        if (request.method() === "GET") return route.fulfill({ json: { alerts: all } });
        const { text, severity } = request.postDataJSON();
        return route.fulfill({ json: make(text, severity, dana) });
      });
      await context.route("**/api/v1/alerts/*/ack", (route) => {
        const id = new URL(route.request().url()).pathname.split("/").at(-2);
        const alert = all.find((one) => one.id === id);
        alert.acked.push({ member: dana, name: "Dana", time: new Date().toISOString(), answer: null });
        Object.assign(alert, { pending: [], pending_names: [] });
        return route.fulfill({ json: alert });
      });
    },
    none: (context) => context.route("**/api/v1/alerts", (route) => route.fulfill({ json: { alerts: [] } })),
    raise: async (text, severity) => make(text, severity, sam).id,
    acknowledged: async (id) => all.find((one) => one.id === id).acked.map((one) => one.member),
  };
}
