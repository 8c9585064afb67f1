-- A small bike rental: stations, bikes, riders and a week of rides.

CREATE TABLE station (
    id       integer PRIMARY KEY,
    name     text NOT NULL,
    district text NOT NULL,
    docks    integer NOT NULL
);

CREATE TABLE bike (
    id         integer PRIMARY KEY,
    model      text NOT NULL,
    electric   boolean NOT NULL,
    station_id integer REFERENCES station -- null while the bike is out
);

CREATE TABLE rider (
    id     integer PRIMARY KEY,
    name   text NOT NULL,
    joined date NOT NULL
);

CREATE TABLE ride (
    id            integer PRIMARY KEY,
    rider_id      integer NOT NULL REFERENCES rider,
    bike_id       integer NOT NULL REFERENCES bike,
    from_station  integer NOT NULL REFERENCES station,
    to_station    integer REFERENCES station,
    started_at    timestamp NOT NULL,
    ended_at      timestamp,
    distance_km   numeric(5, 1) NOT NULL,
    price_cents   integer NOT NULL
);

INSERT INTO station (id, name, district, docks) VALUES
    (1, 'Central Station', 'Centre', 24),
    (2, 'Old Harbour', 'Harbour', 16),
    (3, 'University', 'North', 20),
    (4, 'Botanical Garden', 'North', 8),
    (5, 'Mill Bridge', 'Centre', 12),
    (6, 'Ferry Terminal', 'Harbour', 10);

INSERT INTO bike (id, model, electric, station_id) VALUES
    (101, 'Heron', false, 1), (102, 'Heron', false, 3), (103, 'Heron', false, 2),
    (104, 'Swift', true, 1), (105, 'Swift', true, NULL), (106, 'Swift', true, 5),
    (107, 'Pelican cargo', true, 4), (108, 'Pelican cargo', true, 4);

INSERT INTO rider (id, name, joined) VALUES
    (1, 'Mara Lindqvist', '2025-03-02'),
    (2, 'Tomás Ribeiro', '2025-07-19'),
    (3, 'Yuki Arai', '2026-01-11'),
    (4, 'Nils O''Hara', '2026-02-28'),
    (5, 'Zoé Keller', '2026-05-06');

INSERT INTO ride (id, rider_id, bike_id, from_station, to_station, started_at, ended_at, distance_km, price_cents) VALUES
    (1, 1, 101, 1, 3, '2026-06-01 08:02', '2026-06-01 08:19', 3.4, 150),
    (2, 2, 104, 2, 1, '2026-06-01 08:40', '2026-06-01 08:52', 2.9, 240),
    (3, 3, 102, 3, 4, '2026-06-02 12:05', '2026-06-02 12:11', 1.1, 150),
    (4, 1, 106, 3, 5, '2026-06-02 17:31', '2026-06-02 17:44', 3.8, 260),
    (5, 4, 103, 6, 2, '2026-06-03 09:15', '2026-06-03 09:20', 0.9, 150),
    (6, 5, 104, 1, 6, '2026-06-04 18:03', '2026-06-04 18:31', 6.2, 410),
    (7, 2, 101, 5, 1, '2026-06-05 07:58', '2026-06-05 08:06', 1.7, 150),
    (8, 3, 108, 4, 4, '2026-06-06 10:00', '2026-06-06 10:03', 0.0, 90),
    (9, 5, 105, 6, NULL, '2026-06-07 21:12', NULL, 0.0, 0);
