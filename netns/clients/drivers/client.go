// Clients of Go's net/http, each with a Transport of one connection: client host=… (spec.py, log.py)
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

type spec struct {
	host, port, client string
	count, postEvery   int
	rate, lifetime     float64
	maxTime            time.Duration
	onDemand           bool
}

// A line of the log.
type request struct {
	Client  string  `json:"client"`
	ID      string  `json:"id"`
	Method  string  `json:"method"`
	Started float64 `json:"started"`
	Ended   float64 `json:"ended"`
	Outcome string  `json:"outcome"`
	Status  int     `json:"status"`
	Server  string  `json:"server"`
	Reused  bool    `json:"reused"`
	Port    int     `json:"port"`
	Error   string  `json:"error"`
}

type client struct {
	name  string
	told  chan string
	http  http.Client
	asked int
}

var stdout sync.Mutex

func main() {
	told := read(os.Args[1:])
	time.AfterFunc(time.Duration(told.lifetime*float64(time.Second)), func() { os.Exit(0) })
	clients := make([]*client, told.count)
	for index := range clients {
		clients[index] = newClient(told, index+1)
		delay := float64(index) / float64(told.count) / told.rate
		go clients[index].live(told, time.Duration(delay*float64(time.Second)))
	}
	if !told.onDemand {
		select {}
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		method, number, _ := strings.Cut(lines.Text(), " ")
		clients[whole(number)-1].told <- method
	}
}

func newClient(told spec, number int) *client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxConnsPerHost = 1
	return &client{
		name: fmt.Sprintf("%s-%d", told.client, number),
		told: make(chan string, 100),
		http: http.Client{Transport: transport, Timeout: told.maxTime},
	}
}

func (c *client) live(told spec, delay time.Duration) {
	if !told.onDemand {
		time.Sleep(delay)
	}
	for {
		began := time.Now()
		c.asked++
		if told.onDemand {
			c.ask(told, <-c.told)
			continue
		}
		method := "GET"
		if told.postEvery > 0 && c.asked%told.postEvery == 0 {
			method = "POST"
		}
		c.ask(told, method)
		time.Sleep(time.Until(began.Add(time.Duration(float64(time.Second) / told.rate))))
	}
}

func (c *client) ask(told spec, method string) {
	found := request{Client: c.name, ID: fmt.Sprintf("%s.%d", c.name, c.asked), Method: method}
	var body io.Reader
	if method == "POST" {
		body = strings.NewReader(found.ID)
	}
	url := fmt.Sprintf("http://%s/?%s", net.JoinHostPort(told.host, told.port), found.ID)
	asked, err := http.NewRequest(method, url, body)
	if err != nil {
		panic(err)
	}
	trace := httptrace.ClientTrace{
		GetConn: func(string) { found.Port, found.Reused = 0, false },
		GotConn: func(got httptrace.GotConnInfo) {
			found.Port, found.Reused = got.Conn.LocalAddr().(*net.TCPAddr).Port, got.Reused
		},
	}
	found.Started = monotonic()
	page, err := c.send(asked.WithContext(httptrace.WithClientTrace(asked.Context(), &trace)), &found)
	found.Ended = monotonic()
	switch {
	case err != nil:
		found.Outcome, found.Error = outcome(err), err.Error()
	case found.Status >= 400:
		found.Outcome = "http_error"
	default:
		found.Outcome = "ok"
		found.Server, _, _ = strings.Cut(string(page), "\n")
	}
	line, _ := json.Marshal(found)
	stdout.Lock()
	defer stdout.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

func (c *client) send(asked *http.Request, found *request) ([]byte, error) {
	response, err := c.http.Do(asked)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	found.Status = response.StatusCode
	return io.ReadAll(response.Body)
}

// By types and error numbers, but for net/http's own error of a connection that was closed while idle, which
// has no name.
func outcome(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case strings.Contains(err.Error(), "server closed idle connection"):
		return "closed"
	}
	return "other"
}

// CLOCK_MONOTONIC, clock_gettime(2): package time shows only the distance of two of its readings.
func monotonic() float64 {
	var now syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&now)), 0)
	return float64(now.Sec) + float64(now.Nsec)/1e9
}

func read(words []string) spec {
	said := map[string]string{}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		said[key] = value
	}
	return spec{
		host:      said["host"],
		port:      said["port"],
		client:    said["client"],
		count:     whole(said["count"]),
		postEvery: whole(said["post_every"]),
		rate:      number(said["rate"]),
		lifetime:  number(said["lifetime_s"]),
		maxTime:   time.Duration(number(said["max_time_s"]) * float64(time.Second)),
		onDemand:  said["on_demand"] == "1",
	}
}

func whole(text string) int {
	return int(number(text))
}

func number(text string) float64 {
	found, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(err)
	}
	return found
}
