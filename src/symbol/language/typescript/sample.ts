import type { Store } from "./store";

export interface Shape {
  readonly name: string;
  area(): number;
}

export type Id = string | number;

export enum Color {
  Red = 1,
  Green,
}

export const DEFAULT: Id = "none";

namespace Geometry {
  export function scale(by: number): number {
    return by * factor();
  }
}

declare module Legacy {
  function old(): void;
}

export abstract class Base<T> implements Shape {
  constructor(protected readonly store: Store<T>) {}

  abstract area(): number;

  get name(): string {
    return this.label("base");
  }

  private label(text: string): string;
  private label(text: string, size?: number): string {
    return text.padEnd(size ?? 0);
  }

  onChange = (value: T): void => {
    this.store.put(value);
  };
}

@sealed
export class Square extends Base<number> {
  @logged
  area(): number {
    return Geometry.scale(2) + new Counter<number>().next();
  }
}

export function parse(text: string): Id;
export function parse(text: string): Id {
  return convert<Id>(text);
}

export const twice = <T>(value: T): [T, T] => [value, value];
