"""The pages of `tracing-audit serve`, through a real browser (scripts/browser).

The trail is that of scripts/demo: grace of globex asked what a kilometre costs, and the query failed. PAGE_URL is where the
page is, DATABASE_URL the trail's database as a superuser, `programs` the folder of the programs.
"""

import contextlib
import glob
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

from selenium import webdriver
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

PAGE = os.environ["PAGE_URL"]
PICTURES = os.environ.get("PICTURES")
PATIENCE = 20

# Pages that an auditor sees, and a word that stands on each.
PAGES = {
    "trail": ("/?text=kilometre", "What does a kilometre cost"),
    "request": ("/request?id=req-2", "division by zero"),
    "changes": ("/changes", "public.prices"),
    "users": ("/users", "grace"),
    "agents": ("/agents", "Agents"),
    "models": ("/models", "catalogue"),
    "failures": ("/failures", "division by zero"),
    "session": ("/session?id=globex-grace", "division by zero"),
    "state": ("/state?doctor=yes", "What doctor finds"),
}

def sql(statement):
    program = pathlib.Path(os.environ["programs"]) / "sql"
    done = subprocess.run([program, os.environ["DATABASE_URL"], statement], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout.strip()

def setUpModule():
    # A change of a tracked table, as docs/changes.md has it.
    sql("CREATE TABLE public.prices (station text PRIMARY KEY, cents_per_km integer, note text)")
    sql("SELECT audit.track('public.prices')")
    sql("INSERT INTO public.prices VALUES ('Harbour', 25, 'summer'), ('Castle', 30, NULL)")
    sql("UPDATE public.prices SET cents_per_km = 28, note = 'winter' WHERE station = 'Harbour'")


def browser(*, dark=False, scripts=True, size=(1280, 900), zone=None, downloads=None):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking",
                     "--disable-component-update", "--hide-scrollbars", "--disable-search-engine-choice-screen"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    preferences = {}
    if not scripts:
        preferences["profile.managed_default_content_settings.javascript"] = 2
    if downloads:
        preferences["download.default_directory"] = downloads
    options.add_experimental_option("prefs", preferences)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                           {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600})
    if dark:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    if zone:
        driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": zone})
    return driver

def log_in(driver, then="/", purpose="ticket 4711"):
    driver.get(PAGE + then)
    driver.find_element(By.NAME, "login").send_keys("auditor")
    driver.find_element(By.NAME, "password").send_keys("demo")
    driver.find_element(By.NAME, "purpose").send_keys(purpose, Keys.ENTER)
    WebDriverWait(driver, PATIENCE).until(lambda d: "/login" not in d.current_url)

def text_of(driver):
    return driver.find_element(By.TAG_NAME, "body").text

def hosts_asked(driver):
    """The hosts that requests went to since the last look."""
    hosts = set()
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = urllib.parse.urlsplit(message["params"]["request"]["url"])
            if url.scheme in ("http", "https", "ws", "wss"):
                hosts.add(url.netloc)
    return hosts

def complaints(driver):
    """What the console says: violations of the policy, errors of scripts."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

class Pages(unittest.TestCase):
    @contextlib.contextmanager
    def open(self, **options):
        driver = browser(**options)
        try:
            yield driver
        finally:
            driver.quit()

    def test_somebody_who_never_saw_the_program_finds_what_happened(self):
        with tempfile.TemporaryDirectory() as downloads, self.open(downloads=downloads) as driver:
            log_in(driver)
            search = driver.find_element(By.NAME, "text")
            search.send_keys("KILOMETRE", Keys.ENTER)
            WebDriverWait(driver, PATIENCE).until(lambda d: "text=" in d.current_url)
            rows = driver.find_elements(By.CSS_SELECTOR, "tbody tr")
            self.assertIn("What does a kilometre cost", rows[0].text)
            self.assertEqual({"req-2" in row.text for row in rows}, {True})
            rows[0].find_element(By.CSS_SELECTOR, "a.request").click()
            story = text_of(driver)
            for word in ["grace", "globex", "What does a kilometre cost", "prompt_run", "division by zero", "22012", "failed"]:
                self.assertIn(word, story)
            driver.find_element(By.PARTIAL_LINK_TEXT, "The record, with its row").click()
            driver.find_element(By.LINK_TEXT, "The whole row").click()
            WebDriverWait(driver, PATIENCE).until(lambda _: glob.glob(downloads + "/*.json"))
            with open(glob.glob(downloads + "/*.json")[0], encoding="utf-8") as file:
                self.assertEqual(json.load(file)["request_id"], "req-2")
            self.assertEqual(complaints(driver), [])

    def test_whoever_reads_all_rows_says_what_a_download_is_for(self):
        with tempfile.TemporaryDirectory() as downloads, self.open(downloads=downloads) as driver:
            log_in(driver, purpose="")
            driver.get(PAGE + "/request?id=req-2")
            form = driver.find_element(By.CSS_SELECTOR, "form.download")
            form.find_element(By.NAME, "purpose").send_keys("case 7")
            form.find_element(By.CSS_SELECTOR, "button[value=html]").click()
            WebDriverWait(driver, PATIENCE).until(lambda _: glob.glob(downloads + "/*.html"))
            with open(glob.glob(downloads + "/*.html")[0], encoding="utf-8") as file:
                self.assertIn("What does a kilometre cost", file.read())
            self.assertEqual(complaints(driver), [])

    def test_each_page_is_whole_and_asks_no_other_host(self):
        with self.open() as driver:
            log_in(driver)
            for name, (address, word) in PAGES.items():
                with self.subTest(name):
                    driver.get(PAGE + address)
                    self.assertIn(word, text_of(driver))
                    self.assertEqual(complaints(driver), [])
            self.assertEqual(hosts_asked(driver), {urllib.parse.urlsplit(PAGE).netloc})

    def test_without_scripts_all_is_there(self):
        with self.open(scripts=False) as driver:
            log_in(driver)
            for name, (address, word) in PAGES.items():
                with self.subTest(name):
                    driver.get(PAGE + address)
                    self.assertIn(word, text_of(driver))
            driver.get(PAGE)
            Select(driver.find_element(By.NAME, "status")).select_by_value("failed")
            driver.find_element(By.CSS_SELECTOR, "button.main").click()
            WebDriverWait(driver, PATIENCE).until(lambda d: "status=failed" in d.current_url)
            self.assertEqual({row.text.count("failed") > 0 for row in driver.find_elements(By.CSS_SELECTOR, "tbody tr")}, {True})
            driver.find_element(By.XPATH, "//button[text()='Log out']").click()
            WebDriverWait(driver, PATIENCE).until(lambda d: "/login" in d.current_url)

    def test_keyboard_alone_is_enough(self):
        with self.open() as driver:
            log_in(driver)
            focused = lambda: driver.switch_to.active_element
            focused().send_keys(Keys.TAB)
            self.assertEqual(focused().text, "To the content")
            seen = []
            for _ in range(60):
                focused().send_keys(Keys.TAB)
                seen.append(focused().get_attribute("href") or focused().get_attribute("name") or focused().tag_name)
                if "/request?id=" in str(seen[-1]):
                    break
            for name in ["text", "user", "tenant", "kind", "status", "since"]:
                self.assertIn(name, seen)
            focused().send_keys(Keys.ENTER)
            WebDriverWait(driver, PATIENCE).until(lambda d: "/request?id=" in d.current_url)

    def test_new_records_appear_without_reload_until_paused(self):
        with self.open() as driver:
            log_in(driver)
            state = driver.find_element(By.ID, "live")
            WebDriverWait(driver, PATIENCE).until(lambda _: "appear here" in state.text)
            add = "SET ROLE audit_maintainer; SELECT audit.append_event('note', NULL, NULL, '{}', NULL, NULL, NULL)"
            sql(add.format("first of the live ones"))
            WebDriverWait(driver, PATIENCE).until(lambda d: "first of the live ones" in text_of(d))
            row = driver.find_element(By.CSS_SELECTOR, "tbody tr")
            self.assertIn("first of the live ones", row.text)
            pause = driver.find_element(By.ID, "pause")
            pause.click()
            self.assertEqual(state.text, "Paused.")
            sql(add.format("second of the live ones"))
            time.sleep(2.5)
            self.assertNotIn("second of the live ones", text_of(driver))
            self.assertEqual(complaints(driver), [])

    def test_times_are_in_utc_with_the_own_zone_beside(self):
        with self.open(zone="Asia/Tokyo") as driver:
            log_in(driver)
            time_of = driver.find_element(By.CSS_SELECTOR, "tbody time")
            self.assertIn(" UTC", time_of.text)
            self.assertIn(" here", time_of.text)

    def test_nothing_is_cut_off_on_a_phone_or_at_twice_the_size(self):
        for size in [(360, 740), (640, 450)]:
            with self.open(size=size) as driver:
                log_in(driver)
                for name, (address, _) in PAGES.items():
                    with self.subTest(name, size=size):
                        driver.get(PAGE + address)
                        width = driver.execute_script("return document.documentElement.scrollWidth")
                        self.assertLessEqual(width, size[0])

    def test_z_no_text_of_the_trail_runs_as_a_script(self):
        asked = []

        class Trap(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        trap = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trap)
        threading.Thread(target=trap.serve_forever, daemon=True).start()
        texts = payloads(f"127.0.0.1:{trap.server_address[1]}")
        self.assertEqual(len(texts), 200)
        for text in texts:
            add_everywhere(text)
        with self.open() as driver:
            log_in(driver)
            addresses = [address for address, _ in PAGES.values()] + [f"/request?id={urllib.parse.quote(t)}" for t in texts[::10]]
            records = sql("SELECT 'query_runs', id FROM audit.query_runs WHERE service_name = 'hostile' UNION ALL SELECT 'events', id FROM audit.events WHERE service_name = 'hostile'")
            for record in records.splitlines()[::4]:
                kind, identity = record.split(" | ")
                addresses.append(f"/record?kind={kind}&id={identity}")
            address = "/?since=1h"
            seen = 0
            while address:
                driver.get(PAGE + address)
                seen += len(driver.find_elements(By.CSS_SELECTOR, "tbody tr"))
                self.inert(driver, asked)
                older = driver.find_elements(By.PARTIAL_LINK_TEXT, "Older")
                address = older[0].get_attribute("href").removeprefix(PAGE) if older else None
            self.assertGreaterEqual(seen, 800)
            for address in addresses:
                driver.get(PAGE + address)
                self.inert(driver, asked)
            # The stream of new rows becomes HTML by the script.
            driver.get(PAGE)
            WebDriverWait(driver, PATIENCE).until(lambda d: "appear here" in d.find_element(By.ID, "live").text)
            live = "<img src=x onerror=ran()><script>ran()</script>of the stream"
            sql("SET ROLE audit_maintainer; SELECT audit.append_event('note', NULL, NULL, $live$" + live + "$live$, NULL, NULL, NULL)")
            WebDriverWait(driver, PATIENCE).until(lambda d: "of the stream" in text_of(d))
            self.inert(driver, asked)
            self.assertEqual(hosts_asked(driver), {urllib.parse.urlsplit(PAGE).netloc})

    def inert(self, driver, asked):
        with self.assertRaises(NoAlertPresentException):
            driver.switch_to.alert.text
        self.assertFalse(driver.execute_script("return window.ran === true || document.title === 'ran'"))
        self.assertEqual(driver.execute_script("return document.querySelectorAll('main script, main img, main iframe, main object, main embed, main link, main base, main style, main meta, main video, main audio, main math').length"), 0)
        self.assertEqual(asked, [])
        self.assertEqual(complaints(driver), [])

    @unittest.skipUnless(PICTURES, "no pictures are asked for")
    def test_0_pictures(self):
        for theme in ["light", "dark"]:
            with self.open(dark=theme == "dark", size=(1080, 680)) as driver:
                log_in(driver)
                for name, (address, _) in PAGES.items():
                    driver.get(PAGE + address)
                    driver.save_screenshot(f"{PICTURES}/{name}-{theme}.png")

def payloads(trap):
    """Two hundred texts that run a script or ask another host where they are not escaped."""
    run = f"window.ran=true;document.title='ran';fetch('//{trap}/x')"
    bodies = [
        f"<script>{run}</script>", f"<img src=//{trap}/i onerror=\"{run}\">", f"<svg onload=\"{run}\">", f"<svg><script>{run}</script></svg>",
        f"<iframe srcdoc=\"<script>parent.ran=true</script>\"></iframe>", f"<iframe src=javascript:parent.ran=true></iframe>",
        f"<body onload=\"{run}\">", f"<input autofocus onfocus=\"{run}\">", f"<details open ontoggle=\"{run}\">", f"<video><source onerror=\"{run}\"></video>",
        f"<audio src=x onerror=\"{run}\">", f"<object data=//{trap}/o></object>", f"<embed src=//{trap}/e>", f"<link rel=stylesheet href=//{trap}/s>",
        f"<style>@import'//{trap}/c'</style>", f"<meta http-equiv=refresh content='0;url=//{trap}/m'>", f"<base href=//{trap}/>", f"<a href=\"javascript:{run}\" autofocus>x</a>",
        f"<form action=//{trap}/f><button autofocus>x</button></form>", f"<math><mtext></mtext><script>{run}</script></math>",
        f"<p style=\"background:url(//{trap}/b)\">x", f"<table background=//{trap}/t><td>x</table>", f"<noscript><p title=\"</noscript><img src=x onerror={run}>\">",
        f"<template><script>{run}</script></template><img src=x onerror=\"{run}\">", f"<xss contenteditable autofocus onfocus=\"{run}\">", f"<marquee onstart=\"{run}\">x</marquee>",
        f"javascript:{run}", f"data:text/html,<script>{run}</script>", f"{{{{constructor.constructor('{run}')()}}}}", f"${{{run}}}",
        f"<img src=x onerror=&#119;indow.ran=true>", f"<scr<script>ipt>{run}</scr</script>ipt>", f"%3Cscript%3E{run}%3C/script%3E",
        f"\\u003cscript\\u003e{run}\\u003c/script\\u003e", f"<script src=//{trap}/j></script>", f"<img/src=x/onerror=window.ran=true//", f"<svg/onload=window.ran=true//",
        f"<a onmouseover=\"{run}\" style=\"position:fixed;inset:0\">x</a>", f"+ADw-script+AD4-{run}+ADw-/script+AD4-", f"<image href=//{trap}/v>",
    ]
    before = ["", "\">", "'>", "</pre></textarea></title></script>-->", "\n\ndata: "]
    return [start + body for start in before for body in bodies]

def add_everywhere(text):
    """Adds a record to each table with this text in every field that takes one."""
    quoted = "$text$" + text + "$text$"
    sql(f"""DO $do$
        DECLARE
            name text;
            texts jsonb;
        BEGIN
            SET LOCAL session_replication_role = replica;
            FOREACH name IN ARRAY audit.record_tables() LOOP
                SELECT jsonb_object_agg(attname, {quoted}) INTO texts FROM pg_attribute
                WHERE attrelid = format('audit.%I', name)::regclass AND atttypid = 'text'::regtype AND attnum > 0;
                EXECUTE format('INSERT INTO audit.%I SELECT * FROM jsonb_populate_record(NULL::audit.%1$I, $1)', name)
                USING texts || jsonb_build_object('id', (left(audit.id_at(now())::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid,
                    'service_name', 'hostile', 'status', 'failed', audit.time_column(name), now(), 'writer_id', gen_random_uuid(), 'seq', 1, 'salt', '',
                    'problems', ARRAY[{quoted}], 'redactions', ARRAY[{quoted}], 'metadata', jsonb_build_object({quoted}, {quoted}, 'tenant_key', {quoted},
                    'changes', jsonb_build_object({quoted}, jsonb_build_object('old', {quoted}, 'new', {quoted}))));
            END LOOP;
        END
        $do$""")

if __name__ == "__main__":
    unittest.main()
