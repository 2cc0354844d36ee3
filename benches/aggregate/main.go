// Aggregates a CSV file: how many rows each city has, and the mean of their amounts.
//
// GOOS=wasip1 GOARCH=wasm go build -ldflags=-s -o aggregate.wasm .
package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"
	"strconv"
)

type city struct {
	Rows int     `json:"rows"`
	Sum  float64 `json:"-"`
	Mean float64 `json:"mean"`
}

func main() {
	log.SetFlags(0)
	file, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	rows := csv.NewReader(file)
	rows.ReuseRecord = true
	if _, err := rows.Read(); err != nil {
		log.Fatal(err)
	}
	cities := map[string]*city{}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		amount, err := strconv.ParseFloat(row[2], 64)
		if err != nil {
			log.Fatal(err)
		}
		one := cities[row[1]]
		if one == nil {
			one = &city{}
			cities[string([]byte(row[1]))] = one
		}
		one.Rows++
		one.Sum += amount
	}
	for _, one := range cities {
		one.Mean = one.Sum / float64(one.Rows)
	}
	if err := json.NewEncoder(os.Stdout).Encode(cities); err != nil {
		log.Fatal(err)
	}
}
